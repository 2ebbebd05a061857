"use strict";
// A picture goes to the server; classes and the activation map come back.

const given = JSON.parse(one("#given").textContent);
const TRIES = 4;
let asked = 0;

const percent = (chance) => `${(100 * chance).toFixed(chance < 0.1 ? 2 : 1)} %`;
const state = (text) => { one("#state").textContent = text; };
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function answered(file, number) {
  const kind = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  for (let tried = 1; ; tried++) {
    const answer = await fetch("/predict?top=5&explain=true", { method: "POST", body: file, headers: { "content-type": kind } });
    const found = await answer.json();
    if (answer.ok) return found;
    if (answer.status !== 503 || tried === TRIES) throw new Error(found.error);
    const wait = Number(answer.headers.get("retry-after")) || 1;
    if (number === asked) state(`The server is busy; trying again in ${wait} s.`);
    await pause(wait);
  }
}

async function take(file) {
  const number = ++asked;
  problem("");
  if (file.size > given.most_bytes) {
    problem(`expected a picture of at most ${given.most_bytes / 2 ** 20} MiB, found ${(file.size / 2 ** 20).toFixed(1)} MiB`);
    return;
  }
  state(`Looking at ${file.name || "the picture"} …`);
  one("#answer").classList.add("busy");
  const started = performance.now();
  try {
    const found = await answered(file, number);
    if (number === asked) show(found, performance.now() - started, file.name);
  } catch (error) {
    if (number !== asked) return;
    state("");
    one("#answer").hidden = true;
    problem(error instanceof TypeError ? "The server does not answer; is it still running?" : error.message);
  } finally {
    if (number === asked) one("#answer").classList.remove("busy");
  }
}

function show(found, milliseconds, name) {
  const [{ classes, explanation, seconds }] = found.pictures;
  one("#seen").src = explanation.seen;
  one("#heat").src = explanation.heat;
  one("#seen").decode().then(() => one("#stack").parentElement.classList.toggle("small", one("#seen").naturalWidth < 128), () => {});
  one("#for").textContent = explanation.class;
  one("#first").textContent = classes[0].class;
  one("#classes").replaceChildren(...classes.map((each) => {
    const bar = make("i");
    bar.style.setProperty("--share", 100 * each.probability);
    return make("li", {}, make("span", {}, each.class), make("span", {}, percent(each.probability)), bar);
  }));
  const facts = {
    time: `${Math.round(milliseconds)} ms, of which the network took ${(1000 * seconds).toFixed(1)} ms`,
    network: `${found.network}, ${found.engine} ${found.precision}, profile ${found.profile}`,
    ...(name ? { picture: name } : {}),
  };
  one("#facts").replaceChildren(...Object.entries(facts).flatMap(
    ([label, text]) => [make("dt", {}, label), make("dd", {}, text)]));
  one("#answer").hidden = false;
  state(`${classes[0].class}, ${percent(classes[0].probability)}`);
}

function listen() {
  one("#form").onsubmit = (event) => event.preventDefault();
  one("#file").onchange = ({ target }) => { if (target.files[0]) take(target.files[0]); target.value = ""; };
  one("#show").onchange = shade;
  one("#opacity").oninput = shade;
  const files = (event) => [...(event.dataTransfer || event.clipboardData).files];
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const [file] = files(event);
    if (file) take(file);
    else problem("expected a picture, found something else; save it first, and drop the file");
  });
  addEventListener("paste", (event) => { const [file] = files(event); if (file) take(file); });
}

function shade() {
  one("#heat").style.opacity = one("#show").checked ? one("#opacity").value / 100 : 0;
  one("#opacity").disabled = !one("#show").checked;
}

one("#form").hidden = false;
listen();
shade();
