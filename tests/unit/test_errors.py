import pickle

from contlearn import errors
from contlearn.errors import ContlearnError, RegistryError


def test_message_answers_three_questions():
    error = RegistryError("It broke.", where="here", hint="Mend it.")
    assert str(error) == "It broke. (here) Mend it."
    assert error.to_json() == {"error": "It broke.", "where": "here", "hint": "Mend it."}


def test_every_class_of_the_tree_is_drawn_at_its_head():
    for name in errors.__all__:
        assert name in errors.__doc__


def test_exit_codes_are_one_two_or_that_of_a_lock():
    for name in errors.__all__:
        code = getattr(errors, name).exit_code
        assert code == 4 if name in ("WorkspaceLocked", "LeaseLost") else code in (1, 2)


def test_error_survives_the_way_between_processes():
    again = pickle.loads(pickle.dumps(RegistryError("a", where="b", hint="c")))
    assert isinstance(again, ContlearnError)
    assert (again.what, again.where, again.hint) == ("a", "b", "c")
