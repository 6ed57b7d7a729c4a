"""The paint widget without ComfyUI: slow and failing servers, rounds that end at any moment."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pxpo_dev.paths import REPO

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ADDRESS = "http://alone.test"
Do = Callable[[str], Any]


def answer(route: Any) -> None:
    """The page of these tests, and this pack's own files."""
    path = route.request.url.removeprefix(ADDRESS).partition("?")[0]
    file = REPO / path.removeprefix("/")
    if path == "/":
        file = Path(__file__).with_name("alone.html")
    elif not path.startswith("/web/") or not file.is_file():
        route.fulfill(status=404)
        return
    kind = "text/javascript" if file.suffix == ".mjs" else mimetypes.guess_type(file.name)[0]
    route.fulfill(body=file.read_bytes(), content_type=kind)


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 700, "height": 900}, has_touch=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/*", answer)
    page.goto(ADDRESS)
    page.wait_for_function("window.ready")
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def do(page: Any) -> Do:
    """Runs the body of an async function in the page; gives what it returns."""
    return lambda body: page.evaluate(f"async () => {{ {body} }}")


SAVED = """
    await putMap(id(9), 127);
    const shown = batch(1, 2);
    const widget = make();
    const { node } = widget.value;
    server.files.set(`pxpo/${node}/batch.json`, JSON.stringify({ batches: [shown] }));
    const value = { ...widget.value, batch: shown.batch,
        marks: shown.images.map((image) => mark(image, shown)) };
    let release;
    server.held = new Promise((resume) => { release = resume; });
    widget.setValue(value);
    await until(() => widget.session.pages.length === 2);
"""
"""A widget whose two pictures have saved marks that do not come yet."""


def test_marks_that_are_still_loading_are_not_lost(do: Do) -> None:
    """Looked at, painted on and liked whole, before the files are there."""
    found = do(
        SAVED
        + """
        const { session } = widget;
        session.select(1);
        dab(widget);
        session.whole(-1);
        session.copy();
        session.setReviewed(false);
        const early = widget.value.marks.map((m) => m.map);
        await until(() => text(widget).startsWith("Loading"));
        release();
        await until(() => session.pages.every((page) => page.ready));
        const sent = await widget.serialize();
        dab(widget);
        session.undo();
        return { early, sent: sent.marks, like: session.pages.map((p) => p.map.data[0]),
            undone: session.page.isBlank };"""
    )
    name = "9".zfill(32)
    assert found["early"] == [name, name]
    assert [mark["map"] for mark in found["sent"]] == [name, name]
    assert [mark["reviewed"] for mark in found["sent"]] == [True, True]
    assert found["like"] == [127, 127]
    assert not found["undone"], "undo goes back to what was loaded"


def test_a_picture_opened_while_it_loads_is_reviewed_once_it_is_there(do: Do) -> None:
    found = do(
        SAVED.replace("mark(image, shown)", "mark(image, shown, { reviewed: false })")
        + """
        widget.session.select(1);
        release();
        await until(() => widget.session.pages.every((page) => page.ready));
        return [widget.session.pages.map((p) => p.reviewed), widget.value.marks.length,
            widget.value.marks.filter((m) => m.map).length];"""
    )
    assert found == [[False, True], 2, 2]


def test_a_map_that_fails_to_load_is_kept_and_comes_later(do: Do) -> None:
    found = do(
        SAVED
        + """
        const { session } = widget;
        server.status = 500;
        release();
        await until(() => text(widget).includes("could not be loaded"));
        dab(widget);
        session.step(1);
        const kept = widget.value.marks.map((m) => m.map);
        server.status = 200;
        say("reconnected", {});
        await until(() => session.pages.every((page) => page.ready));
        dab(widget);
        return [kept, session.pages.map((p) => p.map.data[320 * 200])];"""
    )
    assert found == [["9".zfill(32)] * 2, [127, 127]]


def test_marks_on_all_pictures_from_a_blank_one_wipe_nothing(page: Any, do: Do) -> None:
    do(
        """
        window.widget = make();
        show(widget, batch(1, 3));
        dab(widget);
        widget.session.select(1);
        dab(widget);
        widget.session.select(2);
        await until(() => text(widget).startsWith("Marks on 2 of 3"));"""
    )
    page.locator(".pxpo-stage").focus()
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+Shift+V")
    painted = "widget.session.pages.map((page) => !page.isBlank)"
    assert page.evaluate(painted) == [True, True, False]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+c")
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("These marks on all pictures").is_enabled()
    page.keyboard.press("Control+Shift+V")
    assert page.evaluate(painted) == [True, True, True]


@pytest.mark.parametrize("mode", ["change", "instant"])
def test_a_stroke_goes_on_while_the_host_asks_by_itself(page: Any, do: Do, mode: str) -> None:
    do(
        f"""
        app.extensionManager.queueSettings.mode = "{mode}";
        window.widget = make();
        show(widget, batch(1, 1));
        await until(() => widget.panel.stage.pixels(widget.session.page));"""
    )
    box = page.locator(".pxpo-stage").bounding_box()
    row = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, row)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, row, steps=3)
    do('await widget.serialize(); show(widget, batch(1, 1), "p2");')
    page.mouse.move(box["x"] + box["width"] * 0.7, row, steps=3)
    page.mouse.up()
    found = page.evaluate("[...widget.session.page.map.data.slice(120 * 320, 121 * 320)]")
    assert found[110] < 0
    assert found[210] < 0, "the rest of the drag painted nothing"


def test_a_press_of_run_counts_the_stroke_that_is_drawn(do: Do) -> None:
    found = do(
        """
        const widget = make();
        show(widget, batch(1, 1));
        widget.session.beginStroke(50, 50);
        return (await widget.serialize()).marks.length;"""
    )
    assert found == 1


def test_a_stroke_that_new_pictures_interrupt_is_kept_and_leaves_no_hole(do: Do) -> None:
    found = do(
        """
        const widget = make();
        show(widget, batch(1, 1));
        widget.session.beginStroke(50, 50);
        widget.session.extendStroke(90, 50);
        show(widget, batch(2, 1), "p2");
        const { marks } = widget.value;
        widget.session.extendStroke(150, 50);
        dab(widget, 70, 50);
        const { data } = widget.session.page.map;
        return [marks.map((m) => [m.thumb, m.batch]), data[320 * 50 + 70]];"""
    )
    assert found == [[["100".zfill(32), "1".zfill(32)]], -127]


def test_a_pinch_with_the_fill_tool_fills_nothing(page: Any, do: Do) -> None:
    do(
        """
        window.widget = make();
        show(widget, batch(1, 1));
        widget.session.set({ tool: "fill" });
        await until(() => widget.panel.stage.pixels(widget.session.page));"""
    )
    session = page.context.new_cdp_session(page)
    box = page.locator(".pxpo-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(kind: str, *places: float) -> None:
        points = [{"x": x + dx, "y": y, "id": i} for i, dx in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(30)

    touch("touchStart", -20)
    touch("touchStart", -20, 20)
    touch("touchMove", -40, 40)
    touch("touchEnd")
    assert page.evaluate("widget.session.page.isBlank")
    touch("touchStart", 0)
    touch("touchEnd")
    assert not page.evaluate("widget.session.page.isBlank"), "one finger fills"


LEARNED = """
    server.history = { p: { prompt: [0, "p", { 1: {} }, {}] } };
    const widget = make();
    const shown = batch(1, 2);
    show(widget, shown, "p0");
    dab(widget);
    await widget.serialize();
"""
"""A widget with a mark that a run was given."""


def test_a_round_is_noticed_by_the_widget_of_another_moment(do: Do) -> None:
    """Another workflow is open while it ends; then an undo of the graph."""
    found = do(
        LEARNED
        + """
        const { node } = widget.value;
        const value = structuredClone(widget.value);
        const painted = bound(widget, shown);
        widget.detach();
        widget.dispose();
        show(widget, painted);
        learn();
        server.files.set(`pxpo/${node}/batch.json`, JSON.stringify({ batches: [painted] }));
        const said = [];
        for (const moment of ["other tab", "undo"]) {
            const again = make();
            again.setValue(structuredClone(value));
            await until(() => text(again).startsWith("Round 1 has learned from these marks"));
            dab(again);
            said.push([again.session.locked, Boolean(again.value.marks[0].learned)]);
            again.dispose();
        }
        say("execution_success", { prompt_id: "p" });
        await until(() => server.queued.length);
        const next = batch(2, 2);
        show(widget, next, "next");
        server.files.set(`pxpo/${node}/batch.json`, JSON.stringify({ batches: [next, painted] }));
        const last = make();
        last.setValue(structuredClone(value));
        await until(() => text(last).startsWith("Round 1 has learned from your marks"));
        return { said, locked: last.session.locked, batch: last.value.batch,
            learned: last.value.marks.map((m) => m.learned), queued: server.queued };"""
    )
    # An undo of the graph must leave something to redo: the value stays as it was undone to.
    assert found["said"] == [[True, True], [True, False]]
    assert found["batch"] == "2".zfill(32)
    assert found["learned"] == [True]
    assert not found["locked"]
    assert found["queued"] == [{"1": {}}]


def test_a_round_is_noticed_when_the_batch_has_grown(do: Do) -> None:
    found = do(
        LEARNED
        + """
        const more = batch(1, 4);
        show(widget, bound(widget, { ...more, batch: id(2) }));
        learn();
        await until(() => text(widget).startsWith("Round 1 has learned"));
        return [widget.session.locked, widget.value.marks[0].batch];"""
    )
    assert found == [True, "2".zfill(32)]


def test_released_marks_are_learned_from_once(do: Do) -> None:
    """The next pictures may look like those before: their marks are found again, and learned."""
    found = do(
        """
        app.extensionManager.queueSettings.mode = "change";
        const widget = make();
        const shown = batch(1, 1);
        show(widget, shown, "p0");
        dab(widget);
        await until(() => text(widget).includes("do not count yet"));
        widget.panel.body.querySelector("[title^='From now on']").click();
        const rounds = [];
        for (const prompt of ["p1", "p2"]) {
            await widget.serialize();
            show(widget, bound(widget, shown), prompt);
            learn(rounds.length + 1, prompt);
            rounds.push(shared.rounds.of(widget.value.node).learned?.round ?? null);
        }
        return rounds;"""
    )
    assert found == [1, None]


def test_two_nodes_of_a_workflow_ask_for_the_next_pictures_once(do: Do) -> None:
    found = do(
        LEARNED
        + """
        const other = make();
        show(other, batch(3, 1), "p0");
        dab(other);
        await other.serialize();
        show(widget, bound(widget, shown));
        show(other, bound(other, batch(3, 1)));
        learn();
        say("execution_success", { prompt_id: "p" });
        await until(() => server.queued.length);
        await new Promise((resume) => setTimeout(resume, 300));
        return [widget.session.locked, other.session.locked, server.queued.length];"""
    )
    assert found == [True, True, 1]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("say('execution_success', { prompt_id: 'p' });",
         "The next pictures could not be asked for"),
        ("say('execution_error', { prompt_id: 'p' });", "The run did not get to its end"),
    ],
)  # fmt: skip
def test_the_status_says_when_no_next_pictures_come(do: Do, event: str, said: str) -> None:
    found = do(
        LEARNED
        + f"""
        show(widget, bound(widget, shown));
        learn();
        await until(() => text(widget).includes("on their way"));
        api.queuePrompt = async () => {{ throw new Error("refused"); }};
        {event}
        await until(() => text(widget).includes("{said}"));
        return text(widget);"""
    )
    assert found.startswith("Round 1 has learned from these marks.")
    assert "Press Run" in found


def test_another_page_that_answers_leaves_no_empty_sentence(do: Do) -> None:
    found = do(
        """
        const widget = make();
        const { node } = widget.value;
        const wait = { node, token: "t", prompt_id: "p" };
        say("pxpo.wait", { ...wait, shown: batch(1, 1), seconds_left: 60 });
        await until(() => text(widget).includes("waits for you"));
        say("pxpo.wait", { ...wait, over: true, why: "" });
        await until(() => !text(widget).includes("waits for you"));
        return text(widget);"""
    )
    assert found == "Paint what you like and dislike, then press Run."


def test_a_picture_with_a_mask_is_reviewed_and_can_be_left_out(page: Any, do: Do) -> None:
    do(
        """
        await putMap(id(8), 127);
        window.widget = make();
        show(widget, batch(1, 2, () => ({ start: id(8) })));
        await until(() => widget.session.pages.every((page) => page.ready));"""
    )
    marks = "widget.serialize().then((value) => value.marks)"
    button = page.get_by_role("button", name="Reviewed")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate(marks) == []
    assert page.locator(".pxpo-skipped").count() == 0
    button.click()
    left_out = {"thumb": "100".zfill(32), "map": None, "width": 320, "height": 240,
                "reviewed": False}  # fmt: skip
    assert page.evaluate(marks) == [left_out]
    page.wait_for_selector(".pxpo-skipped")
    button.click()
    assert page.evaluate(marks) == [], "the mask counts again"


@pytest.mark.parametrize("name", ["Clear this picture", "Undo"])
def test_the_keys_stay_with_the_picture_after_a_click(page: Any, do: Do, name: str) -> None:
    do("window.widget = make(); show(widget, batch(1, 1)); dab(widget);")
    do("await until(() => widget.session.page && !widget.panel.toolbar.undo.disabled);")
    page.get_by_label(name).click()
    focused = "document.activeElement.className.split(' ')[0]"
    assert page.evaluate(focused) == "pxpo-stage"
    assert page.evaluate("widget.session.page.isBlank")
    page.keyboard.press("Control+z" if name.startswith("Clear") else "Control+y")
    assert not page.evaluate("widget.session.page.isBlank")
    # By keyboard the focus stays, but for a button that cannot have it any more.
    page.get_by_label("Eraser").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.title") == "Eraser (E)"
    page.get_by_label("Clear this picture").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "pxpo-stage"


def test_a_copy_that_is_never_in_a_graph_loads_and_listens_to_nothing(do: Do) -> None:
    found = do(
        SAVED
        + """
        release();
        await until(() => widget.session.pages.every((page) => page.ready));
        server.asked.length = 0;
        const added = [];
        for (const target of [window, api]) {
            target.addEventListener = (type) => added.push(type);
        }
        const copy = make(false);
        copy.setValue({ ...structuredClone(value), autoNext: false });
        await new Promise((resume) => setTimeout(resume, 100));
        const copied = [server.asked.length, added.length, shared.rounds.byNode.size];
        delete window.addEventListener;
        delete api.addEventListener;
        copy.attach();
        await until(() => copy.session.pages.length === 2);
        return copied;"""
    )
    assert found == [0, 0, 1]
