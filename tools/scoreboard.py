"""Write the front page's scoreboard, book/_scoreboard.md, from the committed records in data/results/cpu/."""

from deepdefense import paths, results, scoreboard


def text() -> str:
    """The scoreboard as it follows from the records."""
    folder = paths.root() / "data" / "results" / "cpu"
    return scoreboard.markdown(results.load_records(folder, "training"), results.load_records(folder, "attacks"))


if __name__ == "__main__":
    path = results.write_bytes(paths.root() / "book" / "_scoreboard.md", text().encode())
    print(path)
