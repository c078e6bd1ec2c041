"use strict";

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

document.getElementById("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
});

function ago(seconds) {
  if (seconds < -48 * 3600) return `in ${Math.floor(-seconds / 86400)} days`;
  if (seconds < -3600) return `in ${Math.ceil(-seconds / 3600)} h`;
  if (seconds < -60) return `in ${Math.ceil(-seconds / 60)} min`;
  if (seconds < -1) return `in ${Math.ceil(-seconds)} s`;
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

function showTimes(within) {
  for (const each of within.querySelectorAll("time")) {
    const time = new Date(each.dateTime);
    if (Number.isNaN(time.valueOf())) continue;
    each.title = time.toISOString();
    each.textContent = each.closest(".timeline") ? time.toLocaleString() : ago((Date.now() - time) / 1000);
  }
}

function confirmForms(within) {
  for (const form of within.querySelectorAll("form[data-confirm]")) {
    form.addEventListener("submit", (event) => {
      if (!confirm(form.dataset.confirm)) event.preventDefault();
    });
  }
}

showTimes(document);
confirmForms(document);

for (const each of document.querySelectorAll(".filters input[type=radio], .filters select")) {
  each.addEventListener("change", () => each.form.submit());
}

for (const part of document.querySelectorAll("[data-load]")) {
  fetch(part.dataset.load).then(async (answer) => {
    if (answer.ok) part.innerHTML = await answer.text(); // of our own server, which escapes every value
  }).catch(() => {});
}

// The queue updates by itself; a hidden tab asks for nothing.
const live = document.querySelector("[data-live]");
if (live) {
  let etag = "";
  const update = async () => {
    if (document.hidden || live.contains(document.activeElement)) return;
    const headers = etag ? { "If-None-Match": etag } : {};
    const answer = await fetch(`/rows${location.search}`, { headers });
    if (answer.status === 401) location.reload();
    if (answer.status !== 200) return;
    etag = answer.headers.get("ETag") ?? "";
    live.innerHTML = await answer.text(); // of our own server, which escapes every value
    showTimes(live);
  };
  setInterval(() => update().catch(() => {}), 2000);
}
