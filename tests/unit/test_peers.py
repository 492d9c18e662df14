"""How Shoplens is compared with its peers: shares, tables, goals, and who is missing."""

import asyncio
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from scripts import bench_peers, peer_environments, peer_plot
from scripts.bare_side import when_due
from scripts.bench_peers import Bench, finish
from scripts.closed_loop import SearchFailed, drive
from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.peer_environments import CantInstall
from scripts.peer_list import BENTOML, ENVIRONMENTS, LITSERVE, SAME, TUTORIAL, Setting, divided, peers
from scripts.peer_outcome import Round, Sides, agreement, closed_rows, goals, open_rows, shares
from scripts.peer_settings import common, for_shoplens

SIDES = Sides(
    SAME,
    {
        "bare pipeline": "objects",
        "Shoplens": "objects",
        "LitServe": "objects",
        "bare pipeline, whole photo": "whole",
        "Shoplens, whole photo": "whole",
        "Milvus bootcamp": "whole",
    },
)


def a_round(photos_per_s: float, answered: int = 10, failed: int = 0, cpu_s: float = 1.0, mib: float = 512) -> Round:
    return Round(answered / photos_per_s, [1e3 / photos_per_s] * answered, failed, cpu_s, mib)


def measured(**speeds: tuple[float, ...]) -> dict[str, list[Round]]:
    names = dict(zip(("bare", "ours", "lit", "bare_whole", "ours_whole", "bootcamp"), SIDES.work, strict=True))
    return {names[name]: [a_round(speed) for speed in given] for name, given in speeds.items()}


EVEN = measured(bare=(10, 20), ours=(9, 18), lit=(6, 9), bare_whole=(40, 40), ours_whole=(30, 30), bootcamp=(10, 20))


def test_shares_are_taken_round_by_round():
    assert shares(EVEN["LitServe"], EVEN["bare pipeline"]) == pytest.approx([0.6, 0.45])


def test_each_side_is_told_as_a_share_of_the_bare_pipeline_of_the_same_work():
    rows = {row["same models, closed loop"]: row for row in closed_rows(SIDES, {4: EVEN})}
    assert rows["bare pipeline"]["of bare"] == 1
    assert rows["LitServe"]["of bare"] == pytest.approx(0.525)
    assert rows["LitServe"]["spread"] == pytest.approx(0.15)
    assert rows["Milvus bootcamp"]["of bare"] == pytest.approx(0.375)
    assert rows["Shoplens, whole photo"]["of bare"] == pytest.approx(0.75)
    assert rows["Shoplens"]["p50 ms"] == pytest.approx(1e3 / 18)
    assert {row["connections"] for row in rows.values()} == {4}


def test_cpu_and_memory_are_told_for_a_thousand_photos():
    by_side = {"bare pipeline": [a_round(10, cpu_s=2)], "LitServe": [a_round(5, cpu_s=3, mib=2048)]}
    row = closed_rows(SIDES, {1: by_side})[1]
    assert row["CPU s per 1000"] == pytest.approx(300)
    assert row["CPU to bare"] == pytest.approx(1.5)
    assert (row["MiB"], row["GiB s per 1000"]) == (2048, pytest.approx(400))


def test_a_side_that_answers_nothing_has_no_throughput_and_is_no_rival():
    broken = dict(EVEN) | {"LitServe": [Round(2.0, [], 10, 1.0, 512)] * 2}
    row = closed_rows(SIDES, {4: broken})[2]
    assert (row["of bare"], row["failed"], row["p99 ms"]) == (0, 20, math.inf)
    (goal,) = goals(SIDES, {4: broken}, 1.0)
    assert "Milvus bootcamp" in goal.name


def test_shoplens_is_held_against_the_peer_that_comes_nearest_doing_the_same_work():
    (goal,) = goals(SIDES, {4: EVEN}, 1.5)
    assert goal.name == "same models, 4 connections: throughput of Shoplens to that of LitServe"
    assert goal.value == pytest.approx((9 / 6 + 18 / 9) / 2)
    assert goal.ok
    near = EVEN | measured(bootcamp=(29, 29))
    (goal,) = goals(SIDES, {4: near}, 1.5)
    assert goal.name.endswith("that of Milvus bootcamp")
    assert (goal.value, goal.ok) == (pytest.approx(30 / 29), False)


def test_without_peers_there_is_no_goal():
    assert goals(Sides(SAME, {"bare pipeline": "objects", "Shoplens": "objects"}), {4: EVEN}, 1.0) == []


def test_the_open_loop_tells_latencies_late_searches_and_failures():
    rounds = {name: (each[0], 0.0) for name, each in EVEN.items()}
    rounds["LitServe"] = (a_round(6, failed=3, cpu_s=4), 0.25)
    row = open_rows(SIDES, 5.0, 0.5, rounds)[2]
    assert row["same models, open loop"] == "LitServe"
    assert row["p99 to bare"] == pytest.approx(10 / 6)
    assert (row["failed"], row["sent late"], row["CPU to bare"]) == (3, 0.25, pytest.approx(4))


def lists(*firsts: str | None) -> dict:
    return {"objects": [{"products": None if first is None else [{"product_id": first}]} for first in firsts]}


def test_agreement_counts_lists_that_begin_with_the_same_product():
    assert agreement([lists("a", "b"), lists("c")], [lists("a", "x"), lists("c")]) == pytest.approx(2 / 3)
    assert agreement([lists("a", None)], [lists("a")]) == 1
    assert agreement([lists("a", "b")], [lists("a")]) == 0
    assert agreement([], []) == 0


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
def test_every_peer_in_the_first_table_has_the_threads_of_shoplens_or_all_cores_in_turn(cores: int):
    own = divided(cores)
    for peer in peers(cores)[SAME]:
        for setting in peer.settings:
            threads = (setting.detector_threads, setting.embedder_threads)
            half = (max(1, cores // 2),) * 2
            assert threads in (own, (cores, cores)) or (threads == half and setting.workers == 2)


def test_both_tables_have_the_same_four_others_and_the_second_is_left_at_defaults():
    found = peers(2)
    assert list(found) == [SAME, TUTORIAL]
    names = [[peer.name for peer in table] for table in found.values()]
    assert names[0] == names[1] == ["LitServe", "BentoML", "Ray Serve", "Milvus bootcamp"]
    assert all(peer.settings == (Setting(),) for peer in found[TUTORIAL])


def test_all_that_comes_from_the_index_is_pinned():
    for environment in ENVIRONMENTS:
        assert all(re.fullmatch(r"[a-z]+==[0-9.]+", pinned) for pinned in environment.requirements)
    assert peer_environments.folder_of(LITSERVE, Path("x")) != peer_environments.folder_of(BENTOML, Path("x"))


def test_an_environment_that_could_not_be_made_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(CantInstall, match="is not there"):
        peer_environments.find(LITSERVE, tmp_path)
    # An index that is no index.
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "none").as_uri())
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    peer_environments.install(LITSERVE, tmp_path)
    with pytest.raises(CantInstall, match="litserve"):
        peer_environments.find(LITSERVE, tmp_path)


def test_an_environment_that_is_there_is_not_made_again(tmp_path: Path):
    folder = peer_environments.folder_of(LITSERVE, tmp_path)
    folder.mkdir()
    (folder / "versions").write_text("fastapi==1\nlitserve==2\n")
    peer_environments.install(LITSERVE, tmp_path)
    python, versions = peer_environments.find(LITSERVE, tmp_path)
    assert (python, versions) == (folder / "bin" / "python", ["fastapi==1", "litserve==2"])


def arguments(*words: str):
    return bench_peers._arguments(["--photos", "photos", "--weights", "yolo26n.pt", *words])


def test_a_short_run_has_few_connections_unless_they_are_given():
    assert arguments().connections == [1, 4, 16, 64]
    quick = arguments("--quick")
    assert (quick.connections, quick.rounds, quick.open_seconds) == ([1, 4], 2, 5.0)
    chosen = arguments("--quick", "--connections", "16", "--open-seconds", "0", "--rounds", "1")
    assert (chosen.connections, chosen.rounds, chosen.open_seconds) == ([16], 1, 0.0)


def test_who_is_missing_is_told_and_the_run_counts_as_one_that_could_not_be(tmp_path: Path):
    console, report = Console(record=True, width=200), Report("bench_peers", {})
    given = arguments("--json", str(tmp_path / "figures.json"))
    assert finish(report, {}, given, console) == 0
    assert finish(report, {"BentoML, same models": "no such version"}, given, console) == EXIT_COULD_NOT_RUN
    assert "MISSING BentoML, same models: no such version" in console.export_text()
    assert "no such version" in (tmp_path / "figures.json").read_text()


def test_photos_that_not_all_can_take_are_left_out(tmp_path: Path):
    weights = tmp_path / "yolo26n.pt"
    weights.write_bytes(b"weights")
    (tmp_path / "large.jpg").write_bytes(bytes(bench_peers.MOST_BYTES))
    given = bench_peers._arguments(["--photos", str(tmp_path), "--weights", str(weights)])
    with pytest.raises(FileNotFoundError, match="no photo below"):
        Bench(given, tmp_path, Console())
    (tmp_path / "small.jpg").write_bytes(b"photo")
    bench = Bench(given, tmp_path, Console())
    assert bench._photos.data == [b"photo"]
    assert bench._settings(2)["too large to be sent"] == 1


def test_all_sides_get_the_same_weights_and_shoplens_refuses_nothing(tmp_path: Path):
    weights = tmp_path / "own.pt"
    weights.write_bytes(b"")
    environ = common(weights, tmp_path, tmp_path)
    assert environ["SHOPLENS_DETECTOR__WEIGHTS"] == environ["PEER_WEIGHTS"] == str(weights)
    assert environ["SHOPLENS_DETECTOR__SHA256"].startswith("e3b0c442")
    assert environ["SHOPLENS_DETECTOR__BACKEND"] == environ["SHOPLENS_EMBEDDER__BACKEND"] == "torch"
    assert for_shoplens(1, 2)["SHOPLENS_LIMITS__DEADLINE_S"] == "60"


def test_the_picture_has_a_column_for_each_table(tmp_path: Path):
    rows = closed_rows(SIDES, {1: EVEN, 4: EVEN})
    path = tmp_path / "peers.svg"
    peer_plot.draw({"one": rows, "two": rows}, path)
    assert path.read_text().count("<svg") == 1


async def test_a_closed_loop_goes_on_after_a_search_that_failed():
    sent: list[bytes] = []

    async def search(photo: bytes) -> dict[str, float]:
        sent.append(photo)
        if photo == b"bad":
            raise SearchFailed("500")
        return {"total": 1.0}

    outcome = await drive(search, [b"good", b"bad"], searches=5, in_flight=2)
    assert sorted(sent) == [b"bad"] * 2 + [b"good"] * 3
    assert (len(outcome["latencies_ms"]), outcome["failed"]) == (3, ["500", "500"])


async def test_latencies_of_the_bare_pipeline_count_from_when_a_search_was_due():
    turn = asyncio.Lock()

    async def search(photo: bytes) -> dict[str, float]:
        async with turn:
            await asyncio.sleep(0.05)
        return {}

    outcome = await when_due(search, [b"photo"], [0.0, 0.0, 0.0])
    first, second, third = sorted(outcome["latencies_ms"])
    assert first >= 49
    assert second >= 99
    assert third >= 149
