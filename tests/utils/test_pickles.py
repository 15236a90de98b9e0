"""Tests of amodal2/utils/pickles.py."""

import os
import pickle

import numpy as np
import pytest

from amodal2.utils.pickles import UNPICKLING_ERRORS, load_plain_pickle


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_load_plain_pickle_gives_containers_and_numbers_of_numpy(tmp_path):
    data = {"a": [{"counts": b"123"}, (1, 2)], 3: np.int64(4), "b": np.arange(3)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data))
    found = load_plain_pickle(tmp_path / "a.pkl")
    assert (found["a"], found[3]) == (data["a"], 4)
    np.testing.assert_array_equal(found["b"], data["b"])


def test_load_plain_pickle_code_is_refused_and_not_run(tmp_path):
    target = tmp_path / "made_by_pickle"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Evil(str(target))}))
    with pytest.raises(pickle.UnpicklingError, match=r"plain containers, got (posix|nt)\.mkdir"):
        load_plain_pickle(tmp_path / "a.pkl")
    assert not target.exists()


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_load_plain_pickle_truncated_raises_a_listed_error(tmp_path, length):
    stream = pickle.dumps({"a": np.arange(3), "b": [1, {"c": b"x"}]})
    (tmp_path / "a.pkl").write_bytes(stream[:length])
    with pytest.raises(UNPICKLING_ERRORS):
        load_plain_pickle(tmp_path / "a.pkl")
