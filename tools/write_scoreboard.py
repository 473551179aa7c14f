"""Write what is made from the committed results: the front page's parts, the table of all claims, the figure and the README's head."""

from replication.claims import front

if __name__ == "__main__":
    for path in front.write():
        print(path)
