"""The two papers' experiments: one runner, table and report; per paper its rows, claims and figures."""
