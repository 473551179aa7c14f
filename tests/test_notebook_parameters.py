"""Parameters of notebooks: read from their cells, misspelt ones refused, values checked."""

import base64
import json
import math
import re

import pandas
import pytest

from deepdefense import arguments
from deepdefense.storage import paths
from replication import notebook
from replication.chapters import train

CELL = "# Parameters\nprofile: str = 'smoke'  # smoke or paper\nlam: float = 0.5  # weight of the penalty\nseed = 0\n"


def run(*cells):
    """The namespace of a notebook that has run `cells`, as IPython keeps it."""
    namespace = {"In": [""]}
    for cell in cells:
        namespace["In"].append(cell)
        exec(cell, namespace)
    return namespace


def test_the_defaults_are_those_of_the_cell():
    assert notebook.parameters(run("import math", CELL, "x = 1")) == {"profile": "smoke", "lam": 0.5, "seed": 0}


def test_an_injected_cell_goes_first():
    namespace = run("import math", CELL, "# Parameters\nlam = 2\n", "lamb = 3")
    assert notebook.parameters(namespace) == {"profile": "smoke", "lam": 2, "seed": 0}


@pytest.mark.parametrize(
    ("injected", "words"),
    [
        ("lamb = 2", ["'lamb'", "did you mean 'lam'", "Allowed: profile, lam, seed"]),
        ("Seed = 1", ["'Seed'", "did you mean 'seed'"]),
        ("lam = 1\nxyzzy = 2", ["'xyzzy'", "Allowed: profile, lam, seed"]),
    ],
)
def test_a_misspelt_parameter_is_refused(injected, words):
    with pytest.raises(ValueError) as error:
        notebook.parameters(run(CELL, f"# Parameters\n{injected}\n"))
    assert all(word in str(error.value) for word in words), error.value


def test_extra_names_are_allowed_but_only_if_given():
    assert notebook.parameters(run(CELL, "# Parameters\nwidth = 2"), extra=["width", "lr"])["width"] == 2
    assert "lr" not in notebook.parameters(run(CELL), extra=["width", "lr"])


def test_a_declared_name_without_a_value_is_not_given():
    assert notebook.parameters(run(CELL + "epochs: int\n"))["lam"] == 0.5


def test_without_the_cell_it_says_so():
    with pytest.raises(ValueError, match="run the parameters cell first"):
        notebook.parameters(run("lam = 1"))


TYPED = """# Parameters
n_images: int = 50
reported: float = None
folder: str = None
publish: bool = False
weights: list = None
eps: float = 0.2
other = 1
later: int | None = 3
"""


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("n_images", 6.0, 6),  # papermill's reading of 6.0
        ("n_images", 1e2, 100),
        ("n_images", "1e2", 100),
        ("n_images", "6.0", 6),
        ("n_images", None, None),
        ("reported", "56.1", 56.1),
        ("reported", 56, 56),
        ("eps", "8/255", 8 / 255),
        ("folder", 2025, "2025"),
        ("folder", "~/x", "HOME/x"),
        ("folder", "~", "HOME"),
        ("folder", "x/~y", "x/~y"),
        ("publish", "true", True),
        ("publish", "False", False),
        ("publish", 1, True),
        ("publish", True, True),
        ("weights", "[1, 0.5]", [1, 0.5]),
        ("weights", (1, 2), [1, 2]),
        ("other", "as it is", "as it is"),
        ("later", "as it is", "as it is"),
    ],
)
def test_a_parameter_becomes_what_its_cell_says(name, given, value, monkeypatch):
    monkeypatch.setenv("HOME", "/HOME")
    value = value.replace("HOME", "/HOME") if isinstance(value, str) else value
    namespace = run(TYPED, f"# Parameters\n{name} = {given!r}\n")
    found = notebook.parameters(namespace)
    assert found[name] == value and type(found[name]) is type(value)
    assert namespace[name] == value, "the cells read the name itself"


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("n_images", 2.5, "n_images must be a whole number; got 2.5"),
        ("n_images", "many", "n_images must be a whole number; got 'many'"),
        ("n_images", True, "n_images must be a whole number; got True"),
        ("n_images", float("inf"), "n_images must be a whole number; got inf"),
        ("reported", "56.1%", "reported must be a number, without the sign %; got '56.1%'"),
        ("reported", "much", "reported must be a number; got 'much'"),
        ("reported", False, "reported must be a number; got False"),
        ("eps", [0.1], "eps must be a number; got [0.1]"),
        ("folder", 1000.0, "folder must be text; got 1000.0 (papermill's -r in place of -p gives a value as text)"),
        ("folder", True, "folder must be text; got True"),
        ("publish", "yes", "publish must be True or False; got 'yes'"),
        ("publish", 2, "publish must be True or False; got 2"),
        ("weights", "1, 2;", "weights must be a list, such as [1, 0.5]; got '1, 2;'"),
        ("weights", 3, "weights must be a list"),
    ],
)
def test_a_parameter_that_cannot_be_what_its_cell_says_is_one_sentence(name, given, said):
    value = "float('inf')" if given == float("inf") else repr(given)
    with pytest.raises(ValueError) as error:
        notebook.parameters(run(TYPED, f"# Parameters\n{name} = {value}\n"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_parameters_of_the_book_have_a_type_that_is_looked_after():
    """What is not annotated, or in another way, stays as papermill guessed it."""
    for page in sorted((paths.root() / "book").glob("*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"]
        for cell in cells:
            if cell.startswith("# Parameters"):
                kinds = notebook._annotated(cell)
                assert set(kinds) == set(notebook._assigned(cell)) and set(kinds.values()) <= set(notebook._MAKERS), page.name


def test_choices():
    arguments.check_choice("profile", "smoke", ["smoke", "paper"])
    arguments.check_choice("n", 2, iter([1, 2]))
    with pytest.raises(ValueError, match="profile must be one of smoke, paper; got 'smok'"):
        arguments.check_choice("profile", "smok", ["smoke", "paper"])


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0, dict(above=0), "n must be a number above 0; got 0"),
        (-1, dict(least=0), "n must be a number at least 0; got -1"),
        (1.5, dict(least=0, most=1), "n must be a number at least 0 and at most 1; got 1.5"),
        ("1", dict(least=0), "got '1'"),
        (True, dict(least=0), "got True"),
        (None, dict(least=0), "got None"),
        (math.nan, dict(least=0), "got nan"),
        (math.nan, {}, "got nan"),
        (math.inf, dict(above=0), "got inf"),
    ],
)
def test_numbers_out_of_range(value, limits, words):
    with pytest.raises(ValueError) as error:
        arguments.check_range("n", value, **limits)
    assert words in str(error.value)


@pytest.mark.parametrize(("value", "limits"), [(0, dict(least=0)), (1, dict(most=1)), (0.1, dict(above=0, most=1)), (-5, {})])
def test_numbers_in_range(value, limits):
    arguments.check_range("n", value, **limits)


@pytest.mark.parametrize(
    ("status", "epochs", "words"),
    [
        ("diverged", [], "DIVERGED"),
        ("collapsed", [3, 4], "COLLAPSED"),
        ("finished", [3, 4], "at chance level after epoch(s) 3, 4"),
        ("finished", [], "ended normally"),
    ],
)
def test_the_status_of_a_run_is_said_in_words(status, epochs, words, capsys):
    train.show_status({"status": status, "collapse_epochs": epochs})
    assert words in capsys.readouterr().out


def test_without_history_the_plain_values_are_the_parameters():
    """nbval executes cells without storing them."""
    namespace = {"In": [""], "Out": {}, "lam": 0.1, "profile": "smoke", "weights": None, "_i": "", "ast": object(), "exit": print}
    assert notebook.parameters(namespace) == {"lam": 0.1, "profile": "smoke", "weights": None}


def test_a_table_travels_within_the_page():
    table = pandas.DataFrame({"a": [1, 2]}, index=pandas.Index(["x", "µ"], name="of"))
    html = notebook.download({"one <table>.csv": table}).data
    encoded = re.search(r'base64,([^"]+)"', html)[1]
    assert base64.b64decode(encoded).decode() == "of,a\nx,1\nµ,2\n" and "one &lt;table&gt;.csv" in html
