"""What the demonstration prints at its end."""

from rich.table import Table

from iscl_node.demo.demonstration import Demonstrated


def stage_table(result: Demonstrated) -> Table:
    """Seconds per stage; of the node's, also per slice."""
    table = Table("stage", "seconds", title="Time")
    table.columns[1].justify = "right"
    for stage in result.stages:
        table.add_row(stage.name, f"{stage.seconds:.1f}")
    table.add_section()
    table.add_row("all stages", f"{sum(stage.seconds for stage in result.stages):.1f}")
    work = result.work
    if work.derived:
        table.add_row("denoise and build one slice (the node's own mean)", f"{work.derive_seconds / work.derived:.2f}")
    return table


def quality_table(result: Demonstrated) -> Table:
    """Before and after, against the normal dose."""
    low, after, normal = result.before, result.after, result.normal_mean
    table = Table("", "normal dose", f"low dose ({100 * result.dose:g}%)", "denoised", "change", title="Image quality")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("slices", *[str(result.slices)] * 3, "")
    _add(table, "noise, HU", None, low.noise_hu, after.noise_hu, 1)
    _add(table, "PSNR, dB", None, low.psnr_db, after.psnr_db, 2)
    _add(table, "SSIM", None, low.ssim, after.ssim, 4)
    _add(table, "mean of the body, HU", normal.body, low.mean.body, after.mean.body, 2)
    _add(table, "mean of soft tissue, HU", normal.tissue, low.mean.tissue, after.mean.tissue, 2)
    table.caption = (
        "PSNR and SSIM: in the window from -160 to 240 HU, mean over the slices of which the body fills 5% or more. "
        "Noise: median standard deviation of the difference to the normal dose over 8 x 8 blocks of soft tissue. "
        "Body: above -160 HU in the normal dose; soft tissue: within the window there."
    )
    return table


def _add(table: Table, name: str, normal: float | None, before: float, after: float, digits: int) -> None:
    reference = "" if normal is None else f"{normal:.{digits}f}"
    table.add_row(name, reference, f"{before:.{digits}f}", f"{after:.{digits}f}", f"{after - before:+.{digits}f}")
