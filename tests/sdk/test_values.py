"""What a value may be: the same for ``log``, ``summary``, ``config`` and artifact metadata."""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import os
import pathlib
import pickle
import types
import uuid

import attrs
import numpy as np
import pandas as pd
import pytest

import runicorn as rn
from runicorn import _encoding

from .conftest import document, events


class Phase(enum.Enum):
    WARM = "warm"
    WHEN = datetime.date(2020, 1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1


@dataclasses.dataclass(slots=True)
class Slotted:
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)


@attrs.define
class Attrs:
    lr: float = 0.1


class OwnMapping(collections.abc.Mapping):
    """To us, what OmegaConf's DictConfig is."""

    def __init__(self, data):
        self.data = data

    def __getitem__(self, key):
        value = self.data[key]
        return OwnMapping(value) if isinstance(value, dict) else value

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)


class Redacting:
    """A configuration that leaves its token out when it is asked for a dict."""

    def __init__(self):
        self.lr, self.token = 0.1, "s3cret"

    def to_dict(self):
        return {"lr": self.lr}


Pair = collections.namedtuple("Pair", "a b")

VALUES = [
    (Phase.WARM, "warm"),
    (Phase.WHEN, "2020-01-02"),
    (Level.HIGH, 3),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.Path("/data/a"), "/data/a"),
    (datetime.datetime(2020, 1, 2, 3), "2020-01-02 03:00:00"),
    (datetime.timedelta(seconds=90), "0:01:30"),
    (decimal.Decimal("0.5"), 0.5),
    (fractions.Fraction(1, 4), 0.25),
    (10**30, 10**30),
    ({1: "a", None: "b", False: "c", 0.5: "d"}, {"1": "a", "null": "b", "false": "c", "0.5": "d"}),
    ({Phase.WARM: 1, uuid.UUID(int=1): 2}, {"warm": 1, str(uuid.UUID(int=1)): 2}),
    ({np.int64(4): 1}, {"4": 1}),
    (np.float32(0.5), 0.5),
    (np.float16(0.5), 0.5),
    (np.longdouble(0.25), 0.25),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.datetime64("2020-01-02"), "2020-01-02"),
    (np.array(0.5), 0.5),
    (np.array([[7]]), 7),
    (np.array([], "float32"), []),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (np.array([0.25, 0.5], np.longdouble), [0.25, 0.5]),
    (np.array(["2020-01-02", "2020-01-03"], "M8[D]"), ["2020-01-02", "2020-01-03"]),
    (np.ma.masked_array([7.0], mask=[True]), None),
    (np.ma.masked_array([1.0], mask=[True]).mean(), None),
    (np.ma.masked_array([1.0, 2.0], mask=[True, False]), [None, 2.0]),
    (pd.Series([1, 2]), [1, 2]),
    (collections.deque([1, 2]), [1, 2]),
    (Pair(1, 2), [1, 2]),
    (Slotted(), {"optimizer": {"lr": 0.1}}),
    (Attrs(), {"lr": 0.1}),
    (argparse.Namespace(inner=argparse.Namespace(lr=0.1)), {"inner": {"lr": 0.1}}),
    (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    (OwnMapping({"optimizer": {"lr": 0.1}}), {"optimizer": {"lr": 0.1}}),
    (Redacting(), {"lr": 0.1}),
]
BESIDE = [1.0, None, float("nan"), "null pointer", 10**30, {1: 2}, "\ud800"]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda v: type(v).__name__)
def test_a_value_is_recorded_alike_everywhere_and_beside_everything(start, value, expected):
    run = start(config={"value": value})
    run.summary({"value": value, "nan": float("nan")})
    for beside in BESIDE:
        run.log(value=value, beside=beside)
        run.log(value={"deeper": [value]}, beside=beside)
    (run.run_dir / "file").write_bytes(b"x")
    run.log_artifact(rn.Artifact("model", metadata={"value": value}).add_file(run.run_dir / "file"))
    (metadata,) = run.storage_root.glob("artifacts/*/model/v1/metadata.json")
    recorded = [
        document(run.run_dir, "config.json")["value"],
        document(run.run_dir, "summary.json")["value"],
        json.loads(metadata.read_bytes())["metadata"]["value"],
    ]
    for event in map(json.loads, (run.run_dir / "events.jsonl").read_bytes().split(b"\n")[:-1]):
        logged = event["data"]["value"]
        recorded.append(
            logged["deeper"][0] if isinstance(logged, dict) and "deeper" in logged else logged
        )
    assert recorded == [expected] * (3 + 2 * len(BESIDE))
    assert {type(each) for each in recorded} == {type(expected)}


class Raising:
    @property
    def dtype(self):
        raise RuntimeError("gone")

    def __str__(self):
        raise RuntimeError("gone")


def circular():
    value = {}
    value["a"] = value["b"] = value
    return value


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


REFUSED = [object(), {1, 2}, b"bytes", print, Raising(), {(1, 2): 3}, 10**5000, int, 2j]


@pytest.mark.parametrize("value", [*REFUSED, circular(), deep()], ids=lambda v: type(v).__name__)
def test_what_is_refused_is_refused_beside_everything_and_never_ends_a_configuration(start, value):
    run = start(config={"value": value, "lr": 0.1})
    assert document(run.run_dir, "config.json")["lr"] == 0.1
    for beside in BESIDE:
        with pytest.raises(TypeError):
            run.log(value=value, beside=beside)
        with pytest.raises(TypeError):
            run.summary({"value": [value], "beside": beside})
    with pytest.raises(ValueError, match="metadata"):
        rn.Artifact("model", metadata={"value": value})
    with pytest.raises(ValueError, match="metadata"):
        rn.Artifact("model").add_metadata({"value": [value]})
    run.log(value=1)
    assert len(events(run.run_dir)) == 1


@pytest.mark.parametrize("data", [5, "text", [("a", 1)], [], 0, {1, 2}])
def test_what_is_no_mapping_is_refused_by_log_and_summary(start, data):
    run = start()
    with pytest.raises(TypeError):
        run.log(data)
    with pytest.raises(TypeError):
        run.summary(data)


def test_a_set_in_a_configuration_is_a_sorted_list(start):
    run = start(config={"classes": {3, 1, 2}, "mixed": {"a", 1}})
    assert document(run.run_dir, "config.json") == {"classes": [1, 2, 3], "mixed": [1, "a"]}


def test_configurations_of_frameworks_are_read_as_what_they_hold(start):
    class Settings:
        lr = 0.1
        _hidden = 1

        def method(self):
            pass

    class Slots:
        __slots__ = ("lr", "unset")

        def __init__(self):
            self.lr = 0.1

    module = types.ModuleType("settings")
    module.lr, module.os = 0.1, json
    for config in (Optimizer(), Settings, Settings(), Slots(), module, [("lr", 0.1)], Redacting()):
        run = start(config=config)
        expected = {} if type(config) is Settings else {"lr": 0.1}
        assert document(run.run_dir, "config.json") == expected if expected else True, config
    for wrong in (5, "text", [1, 2]):
        with pytest.raises(TypeError, match="config takes a mapping"):
            start(config=wrong)


def test_omegaconf_and_pydantic(start):
    omegaconf = pytest.importorskip("omegaconf")
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        token: pydantic.SecretStr = pydantic.SecretStr("s3cret")
        inner: dict = {"lr": 0.1}

    config = omegaconf.OmegaConf.create(
        {
            "model": {"lr": 0.1, "layers": [1, 2]},
            "ref": "${model.lr}",
            "missing": "???",
            "bad": "${x}",
        }
    )
    run = start(config=config)
    run.config["pydantic"] = Model()
    stored = document(run.run_dir, "config.json")
    assert stored["model"] == {"lr": 0.1, "layers": [1, 2]}
    assert stored["ref"] == 0.1
    assert "missing" in stored["missing"] and "x" in stored["bad"]
    assert stored["pydantic"] == {"token": "**********", "inner": {"lr": 0.1}}


# -- changes of the configuration --------------------------------------------------------------


CHANGES = {
    "item": lambda run: run.config.__setitem__("a", 5),
    "setdefault": lambda run: run.config.setdefault("new", 5),
    "setdefault that is there": lambda run: run.config.setdefault("a", 5),
    "update": lambda run: run.config.update({"new": 5}, other=6),
    "update with pairs": lambda run: run.config.update([("new", 5)]),
    "or": lambda run: run.config.__ior__({"new": 5}),
    "del": lambda run: run.config.__delitem__("a"),
    "pop": lambda run: run.config.pop("a"),
    "pop of what is not there": lambda run: run.config.pop("none", None),
    "popitem": lambda run: run.config.popitem(),
    "clear": lambda run: run.config.clear(),
    "attribute": lambda run: setattr(run.config, "new", 5),
    "del attribute": lambda run: delattr(run.config, "a"),
    "assignment": lambda run: setattr(run, "config", {"whole": 1}),
    "replace": lambda run: run.config.replace(Optimizer()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_file_is_what_the_configuration_is(start, change):
    run = start(config={"a": 1, "nested": {"x": 1}})
    CHANGES[change](run)
    assert document(run.run_dir, "config.json") == run.config
    assert dict(start(run_id=run.id).config) == run.config


def test_in_place_or_keeps_the_configuration_what_it_is(start):
    run = start(config={"a": 1})
    config = run.config
    run.config |= {"b": 2}
    assert run.config is config
    assert document(run.run_dir, "config.json") == {"a": 1, "b": 2} == config


@pytest.mark.parametrize("change", ["mapping", "list", "object"])
def test_a_change_inside_a_value_is_recorded_with_the_next_change_and_at_the_end(start, change):
    def deepen(config, number):
        if change == "mapping":
            config["mapping"]["x"] = number
        elif change == "list":
            config["list"].append(number)
        else:
            config["object"].lr = number

    run = start(config={"mapping": {}, "list": [], "object": Optimizer()})
    deepen(run.config, 7)
    run.config["z"] = 0
    assert "7" in (run.run_dir / "config.json").read_text()
    deepen(run.config, 8)
    run.finish()
    assert "8" in (run.run_dir / "config.json").read_text()


def test_attributes_of_a_configuration(start):
    run = start(config={"a": 1})
    assert run.config.a == 1
    for name in ("none", "__wrapped__"):
        with pytest.raises(AttributeError):
            getattr(run.config, name)
    with pytest.raises(AttributeError):
        del run.config.none
    with pytest.raises(AttributeError, match=r"config\['items'\]"):
        run.config.items = 5
    run.config["items"] = 5
    assert document(run.run_dir, "config.json") == {"a": 1, "items": 5}


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_of_the_configuration_is_a_plain_dict(start, way):
    config = start(config={"a": {"b": float("nan")}}).config
    assert type(way(config)) is dict
    assert math.isnan(way(config)["a"]["b"])


def test_ranks_merge_their_configurations_key_by_key(start):
    first = start(run_id="one", config={"a": 1, "b": 1})
    second = start(run_id="one")
    second.config["c"] = 2
    del second.config["a"]
    first.config["d"] = 3
    assert document(first.run_dir, "config.json") == {"b": 1, "c": 2, "d": 3}


def test_a_line_of_a_thousand_digits_is_still_one_line(start):
    run = start()
    run.log(n=10**1000, e=Phase.WARM)
    assert _encoding.encode({"n": 10**1000}).count(b"\n") == 1
    assert events(run.run_dir)[0]["data"]["n"] == 10**1000


# -- damaged documents -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"[1]", b"\xff\xfe{}", b"null"])
@pytest.mark.parametrize("name", ["summary.json", "config.json", "status.json", "meta.json"])
def test_a_damaged_document_is_set_aside_and_said_before_it_is_written_again(
    start, caplog, name, content
):
    run = start(run_id="one", config={"a": 1})
    run.summary({"b": 2})
    run.finish()
    (run.run_dir / name).write_bytes(content)
    os.utime(run.run_dir / name, (1, 1))  # not one that is being written at this moment
    run = start(run_id="one", config={"c": 3})
    run.summary({"d": 4})
    run.finish()
    (aside,) = run.run_dir.glob(f"{name}.damaged-*")
    assert aside.read_bytes() == content
    assert f"{name} is damaged and was set aside as {aside.name}" in caplog.text
    assert document(run.run_dir, "status.json")["status"] == "finished"
    assert document(run.run_dir, "meta.json")["id"] == "one"
    if name in ("summary.json", "config.json"):
        assert document(run.run_dir, name) == ({"d": 4} if name == "summary.json" else {"c": 3})
