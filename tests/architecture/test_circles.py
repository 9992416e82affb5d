"""No two files import each other, also not for annotations only, and also not through others."""

import grimp


def test_no_files_import_each_other():
    graph = grimp.build_graph("contlearn", cache_dir=None)
    # The package itself names its public classes for type checkers; it loads them when used.
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
        if module != "contlearn"
    }
    assert circle_in(imports) == []


def circle_in(imports):
    """Give one circle of modules, or nothing."""
    done, way = set(), []

    def follow(module):
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        way.append(module)
        for other in sorted(imports.get(module, ())):
            if found := follow(other):
                return found
        way.pop()
        done.add(module)
        return []

    for module in sorted(imports):
        if found := follow(module):
            return found
    return []


def test_a_circle_is_found_through_others():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
