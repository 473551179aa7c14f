"""Write the front page's scoreboard, book/_scoreboard.md, from the committed results (data/results/paper, else quick)."""

from deepdefense.storage import files, paths
from replication.claims import scoreboard

if __name__ == "__main__":
    path = files.write_bytes(paths.root() / "book" / "_scoreboard.md", scoreboard.text().encode())
    print(path)
