"""The objects beside a derived series: noise maps and the report."""
