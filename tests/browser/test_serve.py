"""The served pages in a real browser: drop a picture, read the result; any network, its cost."""

import base64
import io

import pytest
from PIL import Image

from resnext.deploy import artifact_of_model
from resnext.deploy.engines import open_engine
from resnext.deploy.predict import predict
from servers import in_thread, picture_bytes
from unit.deploy.networks import settled

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def artifact():
    return artifact_of_model(settled(), classes=("ant", "bee", "cat", "dog & <b>wolf</b>"))


@pytest.fixture(scope="module")
def engine(artifact):
    """Made before anything runs: torch.fx changes modules of all threads while it traces one."""
    return open_engine(artifact, "torch")


@pytest.fixture(scope="module")
def server(artifact, engine):
    with in_thread(artifact, engine, upload_mib=1) as running:
        yield running


@pytest.fixture
def visit(chromium, server):
    """Open a page of the server; it asks nobody else, and says nothing on its console."""
    contexts, said, asked = [], [], []
    expected = []

    def visit_(path="/", width=1280, scheme="light", errors=()):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        expected.extend(errors)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url + path)
        return page

    yield visit_
    for context in contexts:
        context.close()
    assert "fault" not in server.log.getvalue(), server.log.getvalue()
    said = [text for text in said if not any(word in text for word in expected)]
    assert said == []
    assert [url for url in asked if not url.startswith((server.url, "data:"))] == []


def file_of(content, name="bee.png"):
    return {"name": name, "mimeType": "image/png", "buffer": content}


@pytest.fixture
def assert_shown(artifact, engine):
    def shown(page, content):
        (found,) = predict(artifact, engine, [("x", content)])
        check(page, found.classes)

    return shown


def check(page, classes):
    page.wait_for_selector("#answer:not([hidden]):not(.busy)")
    assert page.locator("#first").inner_text() == classes[0][0]
    rows = page.locator("#classes li")
    assert rows.count() == 4
    for row, (label, chance) in zip(rows.all(), classes, strict=True):
        name, percent = row.locator("span").all_inner_texts()
        assert name == label
        assert float(percent.removesuffix(" %")) == pytest.approx(100 * chance, abs=0.06)
    assert classes[0][0] in page.locator("#state").inner_text()


def test_a_chosen_picture_is_answered(visit, assert_shown):
    page = visit()
    content = picture_bytes(4)
    page.set_input_files("#file", file_of(content))
    assert_shown(page, content)
    facts = page.locator("#facts").inner_text()
    assert "of which the network took" in facts
    assert "bee.png" in facts
    assert page.locator("#seen").evaluate("(image) => image.naturalWidth") == 32


PUT = """([text, how]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  const event = how === "drop"
    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
  document.querySelector("#drop").dispatchEvent(event);
}"""


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(visit, assert_shown, how):
    page = visit()
    content = picture_bytes(5)
    page.evaluate(PUT, [base64.b64encode(content).decode(), how])
    assert_shown(page, content)
    assert "dropped.png" in page.locator("#facts").inner_text()


def test_the_activation_map_lies_over_the_picture(visit):
    page = visit()
    page.set_input_files("#file", file_of(picture_bytes(6)))
    page.wait_for_selector("#answer:not([hidden])")
    heat = page.locator("#heat")
    seen = page.locator("#seen").bounding_box()
    assert heat.bounding_box() == pytest.approx(seen, abs=1)
    opacity = "(image) => getComputedStyle(image).opacity"
    assert heat.evaluate(opacity) == "0.7"
    page.get_by_label("opacity").focus()
    page.keyboard.press("ArrowLeft")
    assert heat.evaluate(opacity) == "0.69"
    page.get_by_role("checkbox").uncheck()
    assert heat.evaluate(opacity) == "0"
    assert page.get_by_label("opacity").is_disabled()
    page.get_by_role("checkbox").check()
    assert heat.evaluate(opacity) == "0.69"


def test_what_is_no_picture_is_told(visit):
    page = visit(errors=["422"])
    page.set_input_files("#file", file_of(b"<b>no</b>", "<i>no</i>.png"))
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert "expected a picture" in problem.inner_text()
    assert not page.locator("#answer").is_visible()
    page.set_input_files("#file", file_of(bytes(1_100_000)))
    assert "at most 1 MiB" in problem.inner_text()
    page.set_input_files("#file", file_of(picture_bytes(1)))
    page.wait_for_selector("#answer:not([hidden])")
    assert not problem.is_visible()


def test_the_last_of_several_pictures_counts(visit, assert_shown):
    page = visit()
    for seed in range(4):
        page.set_input_files("#file", file_of(picture_bytes(seed)))
    assert_shown(page, picture_bytes(3))


def test_a_busy_server_is_asked_again(visit, server, assert_shown):
    page = visit(errors=["503"])
    with server.service.gate.admitted(server.service.settings.queue):
        page.set_input_files("#file", file_of(picture_bytes(2)))
        page.get_by_text("trying again in").wait_for()
    assert_shown(page, picture_bytes(2))


def test_a_server_that_is_gone_is_told(visit):
    page = visit(errors=["ERR_FAILED"])
    page.route("**/predict*", lambda route: route.abort())
    page.set_input_files("#file", file_of(picture_bytes(2)))
    page.get_by_text("The server does not answer").wait_for()


def test_it_works_by_keyboard(visit):
    page = visit()
    focused = "document.activeElement.id || document.activeElement.textContent"
    stops = []
    for _ in range(4):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(focused))
    assert stops == ["Predict", "Explore", "theme", "file"]
    with page.expect_file_chooser():
        page.keyboard.press("Space")


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(visit, width, scheme):
    page = visit("/", width, scheme)
    large = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 200, 9)).save(large, "JPEG")
    page.set_input_files("#file", file_of(large.getvalue(), "x" * 150 + ".jpg"))
    page.wait_for_selector("#answer:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_the_server_explores_any_network(visit):
    from resnext.deploy.explore import Setting, record

    page = visit("/explore", errors=["422"])
    page.wait_for_selector("#page:not([hidden])")
    page.get_by_label("width d, any number").fill("5")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="ResNeXt-50 (32×5d)").wait_for()
    expected = record(Setting.of("resnext50_32x5d"))
    assert f"{expected['parameters']:,}" in page.locator("#parameters").inner_text()
    page.get_by_label("any network", exact=True).fill("ResNeXt-29 (3x7d, CIFAR, 17 classes)")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="ResNeXt-29 (3×7d, CIFAR, 17 classes)").wait_for()
    assert page.locator("#classes-range").get_attribute("aria-valuetext") == "17"
    page.get_by_label("any network", exact=True).fill("ResNeXt-50 (32q4d)")
    page.get_by_role("button", name="show").click()
    page.get_by_role("alert").wait_for()
    assert "32q4d" in page.get_by_role("alert").inner_text()
    assert page.locator("#name").inner_text() == "ResNeXt-29 (3×7d, CIFAR, 17 classes)"
    page.get_by_label("width d, any number").fill("99999999")
    page.keyboard.press("Enter")
    page.get_by_text("expected width from 1 to 65536").wait_for()
    assert page.locator("#width input[type=number]").input_value() == "7"
    for network in ("PreAct-ResNet-29 (1×64d, CIFAR)", "WRN-34-7"):
        page.get_by_label("any network", exact=True).fill(network)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name=network).wait_for()
    page.get_by_label("classes, any number").fill("11")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="WRN-34-7 (11 classes)").wait_for()
    page.get_by_label("preset").select_option(index=5)
    page.get_by_role("heading", name="ResNeXt-50 (4×24d)").wait_for()
    assert not page.get_by_role("alert").is_visible()
