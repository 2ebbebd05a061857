"use strict";
// Charts that answer: hover for values, drag to zoom, buttons for logarithms and single lines.
// The page is complete without this script: each figure already holds its chart as SVG.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const number = (value) =>
  value == null ? "–" : value !== 0 && Math.abs(value) < 0.01
    ? value.toExponential(2) : value.toLocaleString("en", { maximumFractionDigits: 3 });

// uPlot's own labels round what is small to 0.
const tick = (value) => {
  if (value == null) return "";
  const size = Math.abs(value);
  return value !== 0 && (size < 0.001 || size >= 1e6)
    ? value.toExponential(0) : value.toLocaleString("en", { maximumFractionDigits: 6 });
};

// Lines have points of their own; uPlot wants one x axis for all. What a line lacks there is undefined
// and passed over, what is missing is null and a gap.
const joined = (lines, field) =>
  uPlot.join(lines.map((line) => [line.x, line[field] || line.x.map(() => null)]));

function whiskers(errors) {
  return (plot) => {
    const context = plot.ctx;
    plot.series.forEach((series, index) => {
      if (index === 0 || !series.show) return;
      context.save();
      context.strokeStyle = series.stroke(plot, index);
      context.lineWidth = 1.5 * devicePixelRatio;
      context.beginPath();
      plot.data[0].forEach((x, at) => {
        const y = plot.data[index][at], spread = errors[index][at];
        if (y == null || spread == null) return;
        const across = plot.valToPos(x, "x", true), cap = 4 * devicePixelRatio;
        const ends = [y - spread, y + spread].map((end) => plot.valToPos(end, "y", true));
        if (!ends.every(Number.isFinite)) return;
        context.moveTo(across, ends[0]);
        context.lineTo(across, ends[1]);
        for (const end of ends) {
          context.moveTo(across - cap, end);
          context.lineTo(across + cap, end);
        }
      });
      context.stroke();
      context.restore();
    });
  };
}

// Steps between ticks where all that is shown is counted: epochs have no halves.
const whole = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

function axis(label, size, incrs) {
  return {
    label, size, incrs, labelSize: 20, font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif", stroke: () => css("--soft"),
    values: (plot, ticks) => ticks.map(tick),
    grid: { stroke: () => css("--line"), width: 1 }, ticks: { stroke: () => css("--line") },
  };
}

// With room for error bars, which uPlot does not know of.
const roomy = (errors) => (plot, low, high) => {
  plot.series.forEach((series, index) => {
    if (index === 0 || !series.show) return;
    plot.data[index].forEach((y, at) => {
      const spread = errors[index][at];
      if (y == null || spread == null) return;
      low = Math.min(low, y - spread);
      high = Math.max(high, y + spread);
    });
  });
  return low === null || low === high
    ? uPlot.rangeNum(low, high, 0.1, true) : uPlot.rangeNum(low, high, 0.05, true);
};

class Figure {
  constructor(figure) {
    this.chart = JSON.parse(figure.querySelector("script").textContent);
    this.data = joined(this.chart.lines, "y");
    this.errors = joined(this.chart.lines, "error");
    this.log = { x: this.chart.log_x, y: this.chart.log_y };
    this.shown = this.chart.lines.map(() => true);
    this.room = make("div", { className: "plot" });
    this.legend = this.chart.lines.map((line, index) => this.entry(line, index));
    this.where = make("output", { className: "where" });
    const bar = make("div", { className: "bar" }, ...["x", "y"].map((name) => this.logarithm(name)),
      make("button", { type: "button", textContent: "reset zoom", onclick: () => this.draw() }), this.where);
    const live = make("div", { className: "live" }, bar, this.room,
      make("div", { className: "legend" }, ...this.legend));
    figure.append(live);
    figure.classList.add("answers");
    this.draw();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.room);
  }

  entry(line, index) {
    const sign = make("i", { className: line.dashed ? "dashed" : "" });
    sign.style.color = line.colour;
    const button = make("button", { type: "button" }, sign, line.label + " ", make("output"));
    button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      this.shown[index] = !this.shown[index];
      button.setAttribute("aria-pressed", String(this.shown[index]));
      this.plot.setSeries(index + 1, { show: this.shown[index] });
    };
    return button;
  }

  logarithm(name) {
    const positive = (name === "x" ? [this.data[0]] : this.data.slice(1))
      .every((values) => values.every((value) => value == null || value > 0));
    const button = make("button", { type: "button", textContent: `log ${name}`, disabled: !positive });
    button.setAttribute("aria-pressed", String(this.log[name]));
    button.onclick = () => {
      this.log[name] = !this.log[name];
      button.setAttribute("aria-pressed", String(this.log[name]));
      this.draw();
    };
    return button;
  }

  size() {
    const width = Math.max(240, this.room.clientWidth);
    return { width, height: Math.round(Math.min(420, Math.max(240, width * 0.58))) };
  }

  draw() {
    this.plot?.destroy();
    const lines = this.chart.lines.map((line, index) => ({
      label: line.label, show: this.shown[index], stroke: () => line.colour, spanGaps: false,
      width: line.dashed ? 1.5 : 2, dash: line.dashed ? [6, 4] : undefined,
      points: line.marks || line.y.filter((y) => y != null).length === 1 ? { show: true, size: 7, fill: line.colour } : { show: false },
    }));
    const distr = (name) => (this.log[name] ? 3 : 1);
    this.plot = new uPlot({
      ...this.size(),
      scales: {
        x: { time: false, distr: distr("x") },
        y: { distr: distr("y"), range: this.log.y ? undefined : roomy(this.errors) },
      },
      axes: [
        axis(this.chart.x, 48, this.data[0].every(Number.isInteger) ? whole : undefined),
        axis(this.chart.y, 60),
      ],
      series: [{}, ...lines],
      legend: { show: false },
      cursor: { drag: { x: true, y: true, uni: 30 } },
      hooks: { draw: [whiskers(this.errors)], setCursor: [(plot) => this.read(plot)] },
    }, this.data, this.room);
  }

  read(plot) {
    const at = plot.cursor.idx;
    this.where.value = at == null ? "" : `${this.chart.x} ${number(plot.data[0][at])}`;
    this.legend.forEach((button, index) => {
      const y = at == null ? null : plot.data[index + 1][at];
      button.querySelector("output").value = y == null ? "" : number(y);
    });
  }
}

const figures = [...document.querySelectorAll("figure.chart")].map((figure) => new Figure(figure));
const redraw = () => figures.forEach((figure) => figure.plot.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

const theme = document.querySelector("#theme");
theme.hidden = false;
theme.onclick = () => {
  const dark = css("--scheme") === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  redraw();
};
