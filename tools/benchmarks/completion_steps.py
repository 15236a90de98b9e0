"""The runs behind the tables of ``tools/completion_table.py``, each a command of another tool.

Folders below the output: ``data`` (datasets under their built-in names), ``runs`` (trainings),
``predictions``, ``results`` (one JSON per row), ``demo`` (A2VIS's tracks).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.completion_data import write_subset

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs/savos/quick"
PARTS = ("gum", "official", "species", "scene", "composition")
SHIPPED = "amodal2://savos_chewing_gum.safetensors"
UNSEEN = "betta"
"""The species that the part "species" does not learn from."""
TOY = "cylinder"
"""The toy that is completed in the part "scene"."""


@dataclass(frozen=True)
class Plan:
    """How much is computed.

    Args:
        out: folder of everything that is written.
        aquarium: folder of ``aquarium_v1`` (``datasets/prepare_aquarium.py``).
        gum_train: Chewing Gum videos to train on, of each variant.
        gum_test: unseen ones.
        official_iterations: of going on from the shipped weights on the official variant.
        aquarium_train: aquarium videos to train on.
        aquarium_iterations: of going on from the shipped weights of SaVos on the aquarium.
        aquarium_test: validation videos of the aquarium.
        tracked: validation videos that A2VIS tracks, at least 2 and at most ``aquarium_test``.
        playroom: folder of ``playroom_v1`` (``datasets/prepare_playroom.py``).
        playroom_train: playroom videos to train on, for ``aquarium_iterations`` as well.
        playroom_test: validation videos of the playroom.
        adapt: most iterations of adaptation to one video.
        adapt_rate: its learning rate.

    Raises:
        ValueError: if ``tracked`` is out of range.
    """

    out: Path
    aquarium: Path = Path("datasets/aquarium")
    gum_train: int = 600
    gum_test: int = 100
    official_iterations: int = 300
    aquarium_train: int = 100
    aquarium_iterations: int = 300
    aquarium_test: int = 20
    tracked: int = 10
    playroom: Path = Path("datasets/playroom")
    playroom_train: int = 40
    playroom_test: int = 12
    adapt: int = 100
    adapt_rate: float = 5e-4

    def __post_init__(self) -> None:
        """Check the number of videos that are tracked."""
        if not 2 <= self.tracked <= self.aquarium_test:
            raise ValueError(
                f"Plan: expected tracked in [2, {self.aquarium_test}], got {self.tracked}"
            )

    def data(self, name: str) -> Path:
        """Return the annotation file of a dataset, "folder/split"."""
        return self.out / "data" / f"{name}.json"

    def weights(self, run: str) -> Path:
        """Return the weights of a finished training."""
        return self.out / "runs" / run / "model_final.pth"

    def result(self, row: str) -> Path:
        """Return the file with a row's numbers."""
        return self.out / "results" / f"{row}.json"


@dataclass(frozen=True)
class Step:
    """One run; it is complete when its file exists.

    Args:
        file: that it writes last.
        run: does it; a run that was killed goes on or begins anew.
    """

    file: Path
    run: Callable[[], Any]


def run_tool(plan: Plan, tool: str, *arguments: object, root: str = "data") -> None:
    """Run a command of the repository in a process of its own.

    Args:
        plan: names the output.
        tool: path in the repository.
        arguments: of the command.
        root: folder below the output that has the datasets.

    Raises:
        RuntimeError: if it fails.
    """
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    data = str((plan.out / root).resolve())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment["DETECTRON2_DATASETS"] = data
    print("completion_table:", tool, *arguments, flush=True)
    status = subprocess.run(command, env=environment, check=False).returncode
    if status:
        raise RuntimeError(f"{tool} ended with status {status}")


def make_steps(plan: Plan, part: str) -> list[Step]:
    """Return the runs of one part, in order.

    Args:
        plan: how much.
        part: of ``PARTS``.
    """
    makers = {
        "gum": gum_steps,
        "official": official_steps,
        "species": species_steps,
        "scene": scene_steps,
        "composition": composition_steps,
    }
    return makers[part](plan)


def gum_data(plan: Plan, variant: str) -> Step:
    """Return the making of one variant of Chewing Gum."""
    folder = plan.out / "data" / f"chewing_gum_{variant}"
    arguments = ("--out", folder, "--variant", variant, "--train", plan.gum_train, "--val", 0)
    more = ("--test", plan.gum_test, "--seed", 0)
    run = partial(run_tool, plan, "datasets/prepare_chewing_gum.py", *arguments, *more)
    return Step(folder / "test.json", run)


def training(plan: Plan, run: str, config: str, *options: object, root: str = "data") -> Step:
    """Return a training of a config of ``configs/savos/quick``."""
    file = CONFIGS / f"{config}.yaml"
    keys = ("MODEL.DEVICE", "cpu", "DATASETS.TEST", "()", "OUTPUT_DIR", plan.out / "runs" / run)
    arguments = ("--config-file", file, "--resume", *keys, *options)
    train = partial(run_tool, plan, "tools/train_net.py", *arguments, root=root)
    return Step(plan.weights(run), train)


def scoring(plan: Plan, row: str, data: str, completer: str, *more: object) -> Step:
    """Return the completion of a dataset and its scores."""
    arguments = ("--json", plan.data(data), "--completer", completer, "--device", "cpu", *more)
    files = ("--output", plan.out / "predictions" / f"{row}.json", "--report", plan.result(row))
    run = partial(run_tool, plan, "tools/complete_dataset.py", *arguments, *files)
    return Step(plan.result(row), run)


def model_options(config: str, weights: object) -> tuple[str, ...]:
    """Return the options of a trained completer."""
    return ("--option", f"config={CONFIGS / f'{config}.yaml'}", "--option", f"weights={weights}")


def gum_steps(plan: Plan) -> list[Step]:
    """Table 1, Chewing Gum as in the paper."""
    data = "chewing_gum_paper/test"
    steps = [gum_data(plan, "paper")]
    steps += [scoring(plan, f"gum_{name}", data, name) for name in ("modal", "convex", "union")]
    shipped = model_options("savos_chewing_gum", SHIPPED)
    steps.append(scoring(plan, "gum_savos", data, "savos", *shipped))
    completers = {"unet": "unet", "pcnet": "pcnet", "oracle": "savos"}
    for name, completer in completers.items():
        config = f"{name}_chewing_gum"
        steps.append(training(plan, name, config))
        options = model_options(config, plan.weights(name))
        steps.append(scoring(plan, f"gum_{name}", data, completer, *options))
    return steps


def official_steps(plan: Plan) -> list[Step]:
    """The released generator's variant; ``union`` with exact flow is what can be known."""
    data, config = "chewing_gum_official/test", "savos_chewing_gum_official"
    steps = [gum_data(plan, "official")]
    for name in ("modal", "convex", "union"):
        steps.append(scoring(plan, f"official_{name}", data, name))
    shipped = model_options("savos_chewing_gum", SHIPPED)
    steps.append(scoring(plan, "official_paper_weights", data, "savos", *shipped))
    steps.append(training(plan, "official", config, "SOLVER.MAX_ITER", plan.official_iterations))
    options = model_options(config, plan.weights("official"))
    return [*steps, scoring(plan, "official_savos", data, "savos", *options)]


def aquarium_data(plan: Plan) -> list[Step]:
    """Return the making of the part of the aquarium that is used, and of it without a species."""
    folder, seen = plan.out / "data" / "aquarium", plan.out / "data_seen" / "aquarium"
    count = plan.aquarium_train
    sources = {
        folder / "val.json": (plan.aquarium / "val.json", plan.aquarium_test, ()),
        folder / "train.json": (plan.aquarium / "train.json", count, ()),
        seen / "train.json": (folder / "train.json", count, (UNSEEN,)),
    }
    return [
        Step(file, partial(write_subset, source, file, number, crowds))
        for file, (source, number, crowds) in sources.items()
    ]


def aquarium_training(plan: Plan, name: str, system: str = "savos") -> Step:
    """Return the training of a system on all species ("all") or without one ("seen")."""
    root = {"all": "data", "seen": "data_seen"}[name]
    run = f"aquarium_{name}" if system == "savos" else f"{system}_{name}"
    length = ("SOLVER.MAX_ITER", plan.aquarium_iterations) if system == "savos" else ()
    return training(plan, run, f"{system}_aquarium", *length, root=root)


def adapted(plan: Plan, state: str) -> tuple[object, ...]:
    """Return the options of adaptation that keeps its states in a folder of this name."""
    length = ("--adapt-iterations", plan.adapt, "--adapt-lr", plan.adapt_rate)
    return ("--adapt", *length, "--adapt-dir", plan.out / "adaptation" / state)


def species_steps(plan: Plan) -> list[Step]:
    """Table 2: an unseen species, with and without adaptation; so the model of Chewing Gum."""

    def row(name: str, completer: str, *more: object) -> Step:
        chosen = ("--classes", UNSEEN, *more)
        return scoring(plan, f"species_{name}", "aquarium/val", completer, *chosen)

    def pair(name: str, completer: str, *options: object) -> list[Step]:
        changed = (*options, *adapted(plan, name))
        return [row(name, completer, *options), row(f"{name}_adapted", completer, *changed)]

    weights = {name: plan.weights(f"aquarium_{name}") for name in ("seen", "all")}
    return [
        *aquarium_data(plan),
        *(aquarium_training(plan, name) for name in weights),
        *pair("seen", "savos", *model_options("savos_aquarium", weights["seen"])),
        row("all", "savos", *model_options("savos_aquarium", weights["all"])),
        *(row(name, name) for name in ("modal", "convex", "union")),
        *pair("gum", "savos", *model_options("savos_aquarium", SHIPPED)),
        aquarium_training(plan, "seen", "pcnet"),
        *pair("pcnet", "pcnet", *model_options("pcnet_aquarium", plan.weights("pcnet_seen"))),
    ]


def scene_steps(plan: Plan) -> list[Step]:
    """Table 3: the model of the aquarium in the playroom, and one that has learnt there."""
    folder = plan.out / "data" / "playroom"
    counts = {"val": plan.playroom_test, "train": plan.playroom_train}
    files = {folder / f"{split}.json": count for split, count in counts.items()}
    made = [
        Step(file, partial(write_subset, plan.playroom / file.name, file, count))
        for file, count in files.items()
    ]
    keys = ("DATASETS.TRAIN", "('playroom_v1_amodal_train',)")
    length = ("SOLVER.MAX_ITER", plan.aquarium_iterations)

    def row(name: str, completer: str, *more: object) -> Step:
        chosen = ("--classes", TOY, *more)
        return scoring(plan, f"scene_{name}", "playroom/val", completer, *chosen)

    trained = model_options("savos_aquarium", plan.weights("aquarium_all"))
    home = model_options("savos_aquarium", plan.weights("playroom"))
    return [
        *aquarium_data(plan),
        aquarium_training(plan, "all"),
        *made,
        row("aquarium", "savos", *trained),
        row("aquarium_adapted", "savos", *trained, *adapted(plan, "aquarium")),
        *(row(name, name) for name in ("modal", "convex", "union")),
        training(plan, "playroom", "savos_aquarium", *keys, *length),
        row("playroom", "savos", *home),
    ]


def composition_steps(plan: Plan) -> list[Step]:
    """Table 11: completers on the visible tracks of the shipped A2VIS."""
    demo = plan.out / "demo"
    names = [f"val_{number:05d}" for number in range(plan.tracked)]
    track = partial(
        run_tool,
        plan,
        "tools/video_demo.py",
        *("--config-file", ROOT / "configs/a2vis/quick/a2vis_aquarium.yaml"),
        *("--save", "json", "--score", 0, "--output", demo),
        *("--input", *(plan.aquarium / name for name in names)),
        *("--opts", "MODEL.DEVICE", "cpu"),
    )

    def row(name: str, completer: str, *more: object) -> Step:
        tracks = ("--tracks", demo, "--limit", plan.tracked, "--compose", "visible", *more)
        return scoring(plan, f"composition_{name}", "aquarium/val", completer, *tracks)

    trained = plan.weights("aquarium_all")
    eraser = model_options("pcnet_aquarium", plan.weights("pcnet_all"))
    return [
        *aquarium_data(plan),
        Step(demo / names[-1] / "tracks.json", track),
        row("a2vis", "none"),
        *(row(name, name) for name in ("modal", "convex", "convex_r", "union")),
        aquarium_training(plan, "all"),
        row("savos", "savos", *model_options("savos_aquarium", trained)),
        aquarium_training(plan, "all", "pcnet"),
        row("pcnet", "pcnet", *eraser),
        row("convex_r_pcnet", "convex_r", *eraser),
    ]
