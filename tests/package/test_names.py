"""Names and first lines: one class name is one idea, and a module says in its first line what it is."""

from __future__ import annotations

import ast
from collections import defaultdict

from imports import modules

QUESTIONS = ("What", "How", "Where", "Which", "Whose", "Who", "When", "From", "Do", "Does")


def trees() -> dict[str, ast.Module]:
    return {name.rstrip("."): ast.parse(source) for name, source in modules().items()}


def test_one_class_name_is_one_idea() -> None:
    homes = defaultdict(list)
    for module, tree in trees().items():
        # each method's file names the parts of its own network, and its Config
        if not module.startswith(("bench.methods", "bench.templates")):
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_a_modules_first_line_says_what_it_is() -> None:
    lines = {module: (ast.get_docstring(tree) or "").partition("\n")[0] for module, tree in trees().items()}
    assert [module for module, line in lines.items() if not line] == []
    # a question is not searched for; the word that is stands in front: "Out-of-memory handling: ..."
    assert {module: line for module, line in lines.items() if line.split()[0] in QUESTIONS} == {}
