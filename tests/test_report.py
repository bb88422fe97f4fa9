"""Pages of a run and of a comparison: whole, self-contained, and harmless."""

from __future__ import annotations

import html
import re

import pytest
from studies import HOSTILE, rank_some, small_study

from lab.errors import BadSetting, LabError, NotReady
from lab.page import POLICY, Html, plots, plotted, safe, table
from lab.raters import Rater

EVIL = "<script>window.hacked = 1</script>"
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)


def text_of(path) -> str:
    """A page without its scripts, which plotly writes."""
    return SCRIPT.sub("", path.read_text("utf-8"))


def ppo(study, updates: int = 2):
    trainer = study.trainer("ppo", batch_size=4)
    trainer.train(updates)
    return trainer


def test_a_page_of_a_run_has_its_figures_settings_raters_and_samples(study) -> None:
    rank_some(study)
    trainer = ppo(study)
    path = study.report()
    page, last = text_of(path), trainer.history[-1]
    assert path == study.folder / "ppo-1" / "report.html"
    assert not list(path.parent.glob("*.part"))
    for metric, form in (
        ("objective/scores", "+z.2f"),
        ("objective/kl", "z.1f"),
        ("objective/entropy", "z.1f"),
        ("completions/distinct_2", "z.2f"),
    ):
        assert f">{last[metric]:{form}}<" in page
    assert "After update 2" in page and study.model.name in page and "<td>ppo</td>" in page
    assert re.search(r"batch_size</th><td>[^\n]*?>4</span></td><td><strong>changed", page)
    assert "&lt;lambda&gt;" in page and "simulated" in page and "n = " in page
    assert html.escape(trainer.run.samples[-1]["completion"]) in page
    prompt = trainer.run.samples[-1]["prompt"]
    assert html.escape(study.store.completions(prompt, "reference")[0].text) in page
    assert page.count('class="plotly-graph-div"') == len(trainer.plots)


def test_a_page_loads_nothing_and_says_so_to_the_browser(study) -> None:
    rank_some(study)
    ppo(study, 1)
    for path in (study.report(), study.report(variants=["ppo-1"], prompts=2)):
        whole, page = path.read_text("utf-8"), text_of(path)
        assert f'content="{POLICY}"' in whole and "default-src 'none'" in POLICY
        assert not re.search(r"\b(src|href)\s*=|@import|url\(|https?://", page)
        assert not re.search(r"<script[^>]*\bsrc", whole)
        assert len(whole) < 7e6, "plotly is in it once"
        assert '<html lang="en">' in page and 'name="viewport"' in page and "<h1>" in page


def test_what_models_and_people_wrote_is_shown_and_never_markup(tmp_path, model) -> None:
    prompts = [f"{HOSTILE} thing {i}" for i in range(12)]
    study = small_study(tmp_path, model, prompts=[p.replace("\ud83d", "") for p in prompts])
    study.session(EVIL).simulate(Rater(EVIL, lambda prompt, text: -len(text)), 4)
    trainer = ppo(study, 1)
    ranking = study.store.rankings()[-1]
    study.store._write("UPDATE rankings SET note = ? WHERE id = ?", (EVIL + "note", ranking.id))
    study.store.guidelines = EVIL + "asked"
    for row in trainer.run.samples:
        row["completion"] = HOSTILE + "said"
    page = text_of(study.report())
    escaped = html.escape(EVIL, quote=True)
    assert f"{escaped}note" in page and f"{escaped}asked" in page
    assert f">{escaped}<" in page, "the rater"
    assert page.count(f"{escaped}&lt;img src=x onerror=&quot;window") >= 2 * 4
    compared = text_of(study.report(variants=["ppo-1"], prompts=2))
    assert f"{escaped}&lt;img" in compared
    for text in (page, compared):
        assert "<script" not in text and "<img" not in text and 'window.hacked = 1"' not in text
        assert "\x00" not in text and "\x07" not in text


def test_text_in_a_plot_can_not_end_its_script_and_is_no_markup() -> None:
    import plotly.graph_objects as go

    figure = go.Figure().add_bar(x=[plotted(EVIL)], y=[1.0], name="</script><b>")
    made = plots([figure.update_layout(title=EVIL)])
    assert EVIL not in made and "</script><b>" not in made
    assert "\\u003cb\\u003e" in made
    assert plotted('<a href="x">\ud83d\x00') == '&lt;a href="x"&gt;?\ufffd'


def test_only_the_labs_own_markup_is_left_as_it_is() -> None:
    assert safe("<b title='x'>") == "&lt;b title=&#x27;x&#x27;&gt;"
    assert safe(Html("<b>")) == "<b>"
    made = table(("<i>",), [("<b>", 1)], "<u>")
    assert not re.search("<[ibu]>", made)
    assert '<th scope="col">' in made and '<th scope="row">' in made


def test_a_run_that_has_no_update_or_no_samples_still_has_a_page(study) -> None:
    rank_some(study)
    study.trainer("ppo", batch_size=4)
    page = text_of(study.report("ppo-1"))
    assert "no update" in page and "no samples" in page and "plotly" not in page
    trainer = study.open_run("ppo-1")
    trainer.train(1)
    trainer.run.samples.clear()
    page = text_of(study.report("ppo-1"))
    assert "After update 1" in page and "no samples" in page


def test_settings_that_changed_on_the_way_and_what_a_run_branched_off_are_said(study) -> None:
    rank_some(study)
    ppo(study, 1)
    branch = study.branch(1, kl_coef=0.7)
    page = text_of(study.report())
    assert "ppo-1 after update 1" in page and "no update of its own" in page
    branch.run.settings.append({"update": 3, "settings": {**branch.run.config["settings"]}})
    branch.run.settings[-1]["settings"]["kl_coef"] = 0.9
    assert "From update 3 on: kl_coef = 0.9." in text_of(study.report())


@pytest.mark.parametrize("kind", ["dpo", "grpo", "reward", "sft"])
def test_each_kind_of_run_has_a_page(study, kind) -> None:
    rank_some(study)
    options = {"demonstrations": [("Say it.", "w3 w4"), ("Go.", "w5")]} if kind == "sft" else {}
    trainer = study.trainer(kind, new=True, **options)
    trainer.train(1)
    page = text_of(study.report(trainer.run.name))
    assert "After update 1" in page and "plotly-graph-div" in page
    assert ("Demonstrations: 2" in page) == (kind == "sft")


def test_a_comparison_names_every_variant_and_shows_its_answers(study, tmp_path) -> None:
    rank_some(study)
    ppo(study, 1)
    path = study.report(
        variants=["ppo-1", "best-of-2"], path=tmp_path / "c.html", rater="brief", count=2
    )
    page = text_of(path)
    assert path == tmp_path / "c.html"
    for name in ("reference", "ppo-1@1", "best-of-2"):
        assert f'<th scope="col">{name}</th>' in page and f'<th scope="row">{name}</th>' in page
    assert all(html.escape(prompt) in page for prompt in study.heldout)
    assert "brief" in page and page.count("plotly-graph-div") == 2
    answers = study.variant("reference").answer(
        [p for p in study.heldout for _ in range(2)], seed=study.seed + 1_000_003
    )
    assert all(html.escape(text) in page for text in answers.texts)
    assert study.report(variants=["ppo-1"], prompts=1) == study.folder / "comparison.html"


def test_what_can_not_be_reported_on_is_said(study, tmp_path) -> None:
    with pytest.raises(NotReady, match="no run"):
        study.report()
    rank_some(study)
    ppo(study, 1)
    with pytest.raises(LabError, match="no run"):
        study.report("ppo-7")
    with pytest.raises(BadSetting, match="prompts=0"):
        study.report(variants=["ppo-1"], prompts=0)
    with pytest.raises(LabError, match="can't be written"):
        study.report(path=tmp_path / "nowhere" / "x.html")
