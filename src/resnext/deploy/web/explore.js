"use strict";
// The page shows records. They come from the server, or are looked up in the tables of this file;
// no cost is computed here, but that the rows of a table are added.

const given = JSON.parse(one("#given").textContent);
const KEYS = ["family", "preactivation", "depth", "cardinality", "width", "shortcut", "classes", "resolution"];

const kindOf = (setting) => given.kinds.find(
  (kind) => kind.family === setting.family && kind.preactivation === setting.preactivation);

// The tables of a page of one file: see resnext.deploy.explore.tables.
class Tables {
  static async open(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Tables(await new Response(stream).json());
  }

  constructor(tables) {
    Object.assign(this, tables);
  }

  at(part, setting) {
    const kind = kindOf(setting);
    const table = this.kinds[given.kinds.indexOf(kind)];
    const place = table.axes[part].reduce((before, axis) => {
      const values = axis === "template" ? kind.templates : kind[`${axis}s`] || kind[axis];
      const index = axis === "template"
        ? values.findIndex(([c, d]) => c === setting.cardinality && d === setting.width)
        : values.indexOf(setting[axis]);
      if (index < 0) throw new Error(`expected a setting of this file, found ${axis} ${setting[axis]}`);
      return before * values.length + index;
    }, 0);
    return table[part][place];
  }

  get(part, setting) {
    return this.pool[this.at(part, setting)];
  }

  async record(setting) {
    const stages = this.at("stages", setting).map((place) => this.pool[place]);
    stages.push(this.get("classifier", setting));
    const templates = stages.map((stage) => stage.template).filter(Boolean);
    const total = (unit) => stages.reduce((before, stage) => before + stage[unit], 0);
    return {
      setting, ...this.get("names", setting),
      parameters: total("parameters"), multiply_adds: total("multiply_adds"), activations: total("activations"),
      memory: { batch: this.batch, total: this.at("memory", setting) },
      stages,
      network: this.get("network", setting).replace(/\{(\d)\}/g, (_, number) => templates[number]),
      block: this.get("block", setting),
      neighbours: this.get("neighbours", setting),
    };
  }
}

class Server {
  async record(setting) {
    this.before?.abort();
    this.before = new AbortController();
    const answer = await fetch(`/api/spec?${new URLSearchParams(setting)}`, { signal: this.before.signal });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }
}

const nearest = (values, wanted) => values.reduce(
  (best, value) => (Math.abs(Math.log(value / wanted)) < Math.abs(Math.log(best / wanted)) ? value : best));
const ascending = (values) => [...new Set(values)].sort((a, b) => a - b);

// What a control goes through where the others stand as they do.
function choices(axis, setting) {
  const kind = kindOf(setting);
  const found = {
    cardinality: () => kind.templates.map(([c]) => c),
    width: () => kind.templates.filter(([c]) => c === setting.cardinality).map(([, d]) => d),
    resolution: () => kind.resolutions,
    classes: () => kind.classes,
  }[axis]();
  const current = given.server ? [setting[axis]] : []; // the server answers for any number
  return ascending([...found, ...current]);
}

// The nearest setting that there is.
function settled(setting) {
  const kind = kindOf(setting), found = { ...setting };
  if (given.server && found.family === "wide") return { ...found, cardinality: 1, width: 16 * Math.max(1, Math.round(found.width / 16)) };
  if (given.server) return found;
  if (!kind.depths.includes(found.depth)) found.depth = nearest(kind.depths, found.depth);
  for (const axis of ["cardinality", "width", "resolution", "classes"])
    found[axis] = nearest(choices(axis, found), found[axis]);
  if (!kind.shortcuts.includes(found.shortcut)) found.shortcut = kind.shortcuts[0];
  return found;
}

const AXES = ["cardinality", "width", "resolution", "classes"];
const short = (value) => {
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return String(value);
};
const bytes = (value) => {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30]])
    if (value >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return `${(value / 2 ** 20).toPrecision(3)} MiB`;
};

class Page {
  constructor(source) {
    this.source = source;
    this.asked = 0;
    this.form = "split";
    this.fill();
    this.listen();
  }

  fill() {
    const same = (a, b) => KEYS.every((key) => a[key] === b[key]);
    const known = given.presets.filter(
      ({ setting }) => given.server || (kindOf(setting) && same(settled(setting), setting)));
    one("#preset").append(new Option("–", ""), ...known.map(
      (preset) => new Option(`${preset.name} – ${preset.source}`, JSON.stringify(preset.setting))));
    one("#depth").append(...given.kinds.map((kind, number) => {
      const group = make("optgroup", { label: kind.label });
      group.append(...kind.depths.map((depth) => new Option(`${kind.label}, ${depth} layers`, `${number}:${depth}`)));
      return group;
    }));
  }

  listen() {
    one("#preset").onchange = ({ target }) => target.value && this.go(JSON.parse(target.value));
    one("#depth").onchange = ({ target }) => {
      const [number, depth] = target.value.split(":").map(Number);
      this.go(this.ofKind(given.kinds[number], depth));
    };
    for (const axis of AXES) {
      const row = one(`#${axis}`), range = one("[type=range]", row), number = one("[type=number]", row);
      range.oninput = () => this.move(axis, choices(axis, this.setting)[range.value]);
      if (number) number.onchange = () => this.move(axis, Math.max(1, Math.round(Number(number.value)) || 1));
    }
    one("#shortcut").onchange = ({ target }) => this.move("shortcut", target.value);
    one("#keep").onchange = ({ target }) => { this.reference = target.checked ? this.record.neighbours : null; };
    for (const button of all("[data-form]")) button.onclick = () => { this.form = button.dataset.form; this.showBlock(); };
    if (given.server) one("#named").onsubmit = (event) => { event.preventDefault(); this.named(one("#any").value); };
    addEventListener("hashchange", () => this.fromAddress());
  }

  ofKind(kind, depth) {
    const usual = { resolution: kind.family === "imagenet" ? 224 : 32, classes: kind.family === "imagenet" ? 1000 : 10 };
    const same = kind === kindOf(this.setting);
    return settled({
      ...this.setting, ...(same ? {} : usual), family: kind.family, preactivation: kind.preactivation, depth,
      ...(kind.family === "wide" && !same ? { cardinality: 1, width: 160 } : {}),
    });
  }

  move(axis, value) {
    const wanted = { ...this.setting, [axis]: value };
    const equal = axis === "cardinality" && this.reference?.find((row) => row.cardinality === value);
    if (equal) wanted.width = equal.width;
    this.go(settled(wanted), { keep: true });
  }

  async named(network) {
    try {
      const answer = await fetch(`/api/spec?${new URLSearchParams({ network })}`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      await this.go(found.setting);
    } catch (error) {
      problem(error.message);
    }
  }

  fromAddress() {
    const text = new URLSearchParams(location.hash.slice(1)), found = { ...given.start };
    for (const key of KEYS) {
      if (!text.has(key)) continue;
      const value = text.get(key);
      found[key] = key === "preactivation" ? value === "true" : typeof found[key] === "number" ? Number(value) : value;
    }
    const usable = kindOf(found) && AXES.every((axis) => found[axis] >= 1) && found.depth >= 1;
    return this.go(settled(usable ? found : given.start));
  }

  async go(setting, { keep = false } = {}) {
    const number = ++this.asked;
    if (!keep) { one("#keep").checked = false; this.reference = null; }
    const before = this.setting;
    this.setting = setting;
    this.showControls();
    try {
      const found = await this.source.record(setting);
      if (number !== this.asked) return;
      problem("");
      this.record = found;
      this.setting = found.setting;
      this.show();
    } catch (error) {
      if (number !== this.asked || error.name === "AbortError") return;
      this.setting = this.record?.setting || before;
      this.showControls();
      problem(error.message);
    }
  }

  showControls() {
    const setting = this.setting, number = given.kinds.indexOf(kindOf(setting));
    const depth = one("#depth"), value = `${number}:${setting.depth}`;
    if (!all("option", depth).some((option) => option.value === value))
      one(`optgroup:nth-of-type(${number + 1})`, depth).append(
        new Option(`${given.kinds[number].label}, ${setting.depth} layers`, value));
    depth.value = value;
    const preset = JSON.stringify(Object.fromEntries(KEYS.map((key) => [key, setting[key]])));
    one("#preset").value = preset;
    if (one("#preset").selectedIndex < 0) one("#preset").value = "";
    for (const axis of AXES) {
      const row = one(`#${axis}`), range = one("[type=range]", row), values = choices(axis, setting);
      range.max = values.length - 1;
      range.value = values.indexOf(setting[axis]);
      range.disabled = values.length < 2;
      range.setAttribute("aria-valuetext", setting[axis]);
      const told = one("output, [type=number]", row);
      told.value = told.type === "number" ? setting[axis] : plain(setting[axis]);
    }
    one("#keep").disabled = setting.family === "wide";
    one(`#shortcut [value="${setting.shortcut}"]`).checked = true;
  }

  show() {
    const found = this.record;
    this.showControls();
    one("#name").textContent = found.name;
    for (const unit of ["parameters", "multiply_adds", "activations"])
      one(`#${unit}`).replaceChildren(make("b", {}, short(found[unit])), make("small", {}, plain(found[unit])));
    one("#batch").textContent = found.memory.batch;
    one("#memory").replaceChildren(make("b", {}, bytes(found.memory.total)), make("small", {}, `${plain(found.memory.total)} bytes`));
    one("#network").replaceChildren(drawing(found.network));
    one("#network").setAttribute("aria-label", `${found.name} by stage; the table below says the same`);
    this.showStages();
    this.showBlock();
    this.showNeighbours();
    this.showCode();
    history.replaceState(null, "", `#${new URLSearchParams(KEYS.map((key) => [key, found.setting[key]]))}`);
    document.title = `${found.name} – resnext`;
    one("#page").hidden = false;
  }

  showStages() {
    const found = this.record;
    const number = (value, whole) => {
      const cell = make("td", { className: "number" }, plain(value));
      if (whole) cell.style.setProperty("--share", (100 * value / whole).toFixed(1));
      return cell;
    };
    const layers = (stage) => {
      const cell = make("td", {}, ...stage.before.map((text) => make("div", {}, text)));
      if (stage.layers.length) {
        const lines = make("span", {}, ...stage.layers.map((text) => make("i", {}, text)));
        cell.append(make("div", { className: "block" }, lines, `× ${stage.blocks}`));
      }
      return cell;
    };
    const rows = found.stages.map((stage) => make("tr", {},
      make("td", {}, stage.name), make("td", {}, stage.output), layers(stage),
      number(stage.parameters, found.parameters), number(stage.multiply_adds, found.multiply_adds)));
    rows.push(make("tr", { className: "total" }, make("td", {}, "total"), make("td"), make("td"),
      number(found.parameters), number(found.multiply_adds)));
    one("#stages tbody").replaceChildren(...rows);
  }

  showBlock() {
    const { svg, description } = this.record.block[this.form];
    one("#block").replaceChildren(drawing(svg));
    one("#block").setAttribute("aria-label", description);
    one("#block-note").textContent = `${description}. The three forms of Fig. 3 compute the same function.`;
    for (const button of all("[data-form]")) button.setAttribute("aria-pressed", String(button.dataset.form === this.form));
  }

  showNeighbours() {
    const { neighbours, setting } = this.record, kind = kindOf(setting);
    one("#around").hidden = !neighbours.length;
    one("#neighbours tbody").replaceChildren(...neighbours.map((row) => {
      const now = row.cardinality === setting.cardinality && row.width === setting.width;
      const here = given.server || kind.templates.some(([c, d]) => c === row.cardinality && d === row.width);
      const text = `${row.cardinality}×${row.width}d`;
      const button = make("button", { type: "button", onclick: () => this.go({ ...setting, cardinality: row.cardinality, width: row.width }) }, text);
      const cells = [row.cardinality, row.width, row.group_width, plain(row.cost),
        now ? "" : `${row.difference > 0 ? "+" : row.difference < 0 ? "−" : ""}${Math.abs(row.difference).toFixed(1)}`];
      return make("tr", { className: now ? "now" : "" }, make("td", {}, now || !here ? text : button),
        ...cells.map((cell) => make("td", { className: "number" }, String(cell))));
    }));
  }

  showCode() {
    const { name, python, shell } = this.record;
    one("#code").replaceChildren(...[name, python, shell].map((text) => {
      const code = make("code", {}, text), button = make("button", { type: "button" }, "copy");
      button.setAttribute("aria-label", `copy ${text}`);
      button.onclick = async () => {
        await copy(code);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      };
      return make("div", { className: "line" }, code, button);
    }));
  }
}

let page;
(async () => {
  try {
    const source = given.server ? new Server() : await Tables.open(one("#tables").textContent);
    page = new Page(source);
    await page.fromAddress();
  } catch (error) {
    problem(typeof DecompressionStream === "undefined"
      ? "This page needs a browser of 2023 or later." : error.message);
  }
})();
