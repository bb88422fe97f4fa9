"""The reward model's panel, without a browser."""

from __future__ import annotations

import threading

from studies import HOSTILE, idle, rank_some, small_study

from lab.preferences import Completion, Ranking


def click(panel, trace, point: int) -> None:
    """What the page sends when a point or a bar is clicked."""
    index = list(panel.figure.data).index(trace)
    x = trace.x[point] if trace.x else 0
    at = {"trace_indexes": [index], "point_indexes": [point], "xs": [x], "ys": [0]}
    panel.figure._js2py_pointsCallback = {"event_type": "plotly_click", "points": at}


def texts(panel) -> str:
    """All that the panel says outside of its figure."""

    def walk(widget):
        yield getattr(widget, "value", "")
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    return " ".join(str(value) for value in walk(panel))


def test_the_reward_panel_has_a_point_for_each_ranking_from_the_second_on(study) -> None:
    rank_some(study, 2)
    panel = study.reward()
    rank_some(study, 3)
    trace = panel.figure.data[0]
    assert list(trace.x) == [2, 3, 4, 5] and len(trace.y) == 4


def test_the_headline_is_what_was_predicted_before(study) -> None:
    rank_some(study, 3)
    seen = study.reward_model.accuracies.prequential
    expected = f"right on {100 * seen.value:.0f} % [{100 * seen.low:.0f}, {100 * seen.high:.0f}]"
    said = study.reward().status.value
    assert f"{expected} of {seen.count} pairs" in said and "at random" in said


def test_too_few_predictions_are_said_in_words_and_enough_are_drawn(study) -> None:
    rank_some(study, 2)
    panel = study.reward()
    assert "not known yet" in panel.status.value
    assert any("not enough yet" in a.text and a.visible for a in panel.figure.layout.annotations)
    assert not panel.plots.dots.visible
    rank_some(study, 7)
    assert "When it says" in panel.status.value
    assert not any("not enough yet" in a.text for a in panel.figure.layout.annotations)
    bins = study.reward_model.predictions.reliability(study.reward_model.head.temperature)
    assert list(panel.plots.dots.x) == [b.predicted for b in bins]


def test_the_bars_hold_every_pair_that_was_predicted(study) -> None:
    rank_some(study, 5)
    panel, predictions = study.reward(), study.reward_model.predictions
    strict = sum(m != 0 for m in predictions.margins)
    assert sum(sum(bars.y) for bars in panel.plots.bars.values()) == strict


def test_a_clicked_point_shows_its_ranking_beside_the_prediction(study) -> None:
    rank_some(study, 5)
    panel = study.reward()
    click(panel, panel.figure.data[0], 1)
    ranking = study.store.rankings()[2]
    assert panel.number.value == 3
    assert f"Ranking 3, by {ranking.rater.replace('<', '&lt;')[:3]}" in panel.detail.value
    assert "score predicted" in panel.detail.value and ranking.prompt in panel.detail.value


def test_the_number_of_a_ranking_does_what_a_click_does(study) -> None:
    rank_some(study, 3)
    panel = study.reward()
    panel.show_button.click()
    assert "Ranking 1," in panel.detail.value and "nothing was predicted" in panel.detail.value
    panel.number.value = 2
    assert "Ranking 2," in panel.detail.value and "strict pairs the right way" in panel.detail.value
    panel.show_ranking(99)
    assert "no ranking 99" in panel.detail.value


def test_a_clicked_bar_shows_at_most_five_of_its_pairs(study) -> None:
    rank_some(study, 8)
    panel = study.reward()
    for right, bars in panel.plots.bars.items():
        for place, count in enumerate(bars.y):
            click(panel, bars, place)
            if count:
                assert f"{count} pairs {'ordered' if right else 'the wrong'}" in panel.detail.value
                assert panel.detail.value.count("<tr>") == 1 + min(5, count)
            else:
                assert "No pairs there" in panel.detail.value


def hostile_rankings(study, count: int) -> None:
    """Rankings of hostile texts, as surprising as they can be at the end."""
    rank_some(study, 1)
    model = study.reward_model
    ids = study.store.ids_by_prompt("reference").popitem()[1]
    features = model.features(ids[:2])
    for i in range(count):
        prompt = f"{HOSTILE} {i}"
        pair = [Completion(prompt, f"{HOSTILE} {side}", (3,), True) for side in range(2)]
        a, b = study.store.add_completions(pair, model.extractor, features)
        predicted = (-9.0, 0.0) if i == count - 1 else (3.0, 0.0)
        ranking = Ranking(prompt, ((a,), (b,)), (b, a), rater=HOSTILE, predicted=predicted[::-1])
        study.store.add_ranking(ranking)
    study.refit()


def test_hostile_text_is_text_in_every_table(study) -> None:
    hostile_rankings(study, 40)
    panel = study.reward()
    panel.show_ranking(41)
    assert "Surprises" in panel.surprises.value and "What it loves" in panel.extremes.value
    assert "&lt;script&gt;" in panel.detail.value
    panel.show_pairs(6, True)
    assert "&lt;script&gt;" in panel.detail.value
    assert "<script" not in texts(panel) and "<img" not in texts(panel)


def test_a_surprise_has_a_button_that_shows_its_ranking(study) -> None:
    hostile_rankings(study, 40)
    panel = study.reward()
    shown = [button for button in panel.again if button.layout.display != "none"]
    assert [button.description for button in shown] == ["Look at ranking 41"]
    shown[0].click()
    assert "Ranking 41" in panel.detail.value and "0 of 1 strict pairs" in panel.detail.value


def test_one_panel_serves_however_often_it_is_shown(study) -> None:
    rank_some(study, 2)
    panels = {id(study.reward()) for _ in range(5)}
    assert len(panels) == 1 and len(study._on_refit) == 1
    study.reward().close()
    assert id(study.reward()) not in panels


def test_a_closed_panel_is_drawn_no_more(study, monkeypatch) -> None:
    rank_some(study, 2)
    panel = study.reward()
    panel.close()
    monkeypatch.setattr(panel, "_draw", lambda: 1 / 0)
    said = panel.status.value
    rank_some(study, 1)
    assert panel.status.value == said


def test_a_picture_that_fails_does_not_fail_the_refit(study, monkeypatch) -> None:
    rank_some(study, 2)
    panel = study.reward()
    monkeypatch.setattr(panel, "_draw", lambda: 1 / 0)
    rank_some(study, 1)
    assert len(study.store.rankings()) == 3
    assert "ZeroDivisionError" in panel.status.value and 'role="alert"' in panel.status.value


def test_a_study_opened_again_shows_the_same_without_keeping_the_cell_waiting(
    study, tmp_path, model
) -> None:
    rank_some(study, 8)
    first = study.reward()
    again = small_study(tmp_path, model)
    release = threading.Event()
    again.runner.submit(release.wait)
    panel = again.reward()
    assert "Reading" in panel.status.value and "reward_model" not in vars(again)
    assert list(panel.figure.data[0].x) == list(first.figure.data[0].x)
    release.set()
    idle(again)
    assert panel.status.value == first.status.value
    assert list(panel.plots.bars[True].y) == list(first.plots.bars[True].y)


def test_before_the_first_ranking_nothing_is_read_and_nothing_fails(study) -> None:
    panel = study.reward()
    assert "No ranking yet" in panel.status.value and "reward_model" not in vars(study)
    assert panel.show_button.disabled
    rank_some(study, 1)
    assert "1 ranking." in panel.status.value and not panel.show_button.disabled


def test_all_taken_back_leaves_an_empty_panel(study) -> None:
    rank_some(study, 2)
    panel, session = study.reward(), study.session()
    session.rater = study.store.rankings()[0].rater
    while session.undo():
        pass
    assert "No ranking yet" in panel.status.value and panel.show_button.disabled
    assert panel.extremes.value == panel.kinds.value == panel.surprises.value == ""


def test_held_out_accuracy_comes_the_way_the_panel_says(study) -> None:
    rank_some(study, 6)
    panel = study.reward()
    assert "study.rank(heldout=True)" in panel.notes.value
    study.session(heldout=True).simulate(lambda prompt, text: -len(text), 2)
    assert "study.rank(heldout=True)" not in panel.notes.value
    assert "Held-out prompts:" in panel.status.value and panel.plots.lines["heldout"][0].visible
