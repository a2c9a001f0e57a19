// The bar above the text and the strip below it.

const labelled = (name, control) => el("label", { class: "wb-control" }, `${name} `, control);

const choice = (options, chosen, change) => {
  const node = el("select", { onchange: () => change(node.value) });
  node.append(...options.map(([value, text]) => el("option", { value }, text)));
  node.value = chosen;
  return node;
};

/** The scale as drawn, with its numbers; zero in the middle of two hues. */
const legend = (scores, layer, threshold) => {
  const node = el("span", { class: "wb-leg" });
  if (!layer.scale) return node.append(`scores ${NOT_AVAILABLE}`), node;
  if (layer.scale.flat) return node.append(`all scores are equal (${number(layer.book[0])})`), node;
  const { quantiles, floor, top } = layer.scale;
  const signed = layer.scale.low < 0;
  const ends = { value: [layer.scale.low, layer.scale.high], rank: [quantiles[0], quantiles.at(-1)], logarithm: [floor, top] };
  const [least, high] = ends[scores.by];
  const low = signed ? -high : least;
  const palette = scores.head.palette;
  const colours = signed ? palette : palette.slice(scores.middle);
  const short = (x) => number(x, Number.isInteger(x) ? 0 : 2);
  const bar = el("span", { class: "wb-grad" });
  bar.style.backgroundImage = `linear-gradient(90deg,${colours.join(",")})`;
  if (threshold !== null) {
    const place = scores.place(layer, threshold);
    const tick = el("i");
    tick.style.left = `${Math.max(0, Math.min(100, 100 * (signed ? (place + 1) / 2 : place)))}%`;
    bar.append(tick);
  }
  node.append(el("span", {}, short(low)), bar, el("span", {}, short(high)));
  return node;
};

/** "selected: n of m tokens", of those with a score; and precision, recall and AUROC where spans are known. */
const summary = (scores, state) => {
  const { layer, step, unit, threshold } = state;
  const counts = scores.matches(layer, step, unit, threshold);
  const bold = (text) => el("b", {}, text);
  const node = el("span", { class: "wb-last" });
  const share = counts.known ? ` (${Math.round((100 * counts.selected) / counts.known)} %)` : "";
  const scored = counts.known < counts.count ? " with a score" : "";
  node.append("selected: ", bold(String(counts.selected)), ` of ${counts.known} ${unit}s${scored}${share}`);
  if (counts.labelled) {
    node.append(" · precision ", bold(counts.picked ? number(counts.both / counts.picked) : NOT_AVAILABLE));
    node.append(" recall ", bold(number(counts.both / counts.labelled)));
    // Of one answer it would rank a handful of tokens, and says nothing of the scorer.
    if (counts.answers > 1) node.append(" · AUROC ", bold(number(counts.auroc)), ` over ${counts.answers} answers`);
  }
  if (counts.known < counts.count) node.append(` · ${NOT_AVAILABLE}: ${counts.count - counts.known}`);
  const own = scores.stepOf(layer, step);
  if (own !== step) node.append(` · scores of step ${own}`);
  return node;
};

/** Forget and retain NLL over a run, and a line at the slider's step. */
class Curve {
  constructor(curve) {
    this.curve = curve;
    this.last = Math.max(1, ...curve.step);
    const ns = "http://www.w3.org/2000/svg";
    this.node = document.createElementNS(ns, "svg");
    this.node.setAttribute("viewBox", "0 0 400 34");
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("role", "img");
    this.node.setAttribute("aria-label", "negative log-likelihood of forget and retain answers over the run");
    const high = Math.max(1e-9, ...[...curve.forget, ...curve.retain].filter((v) => v !== null));
    for (const name of ["forget", "retain"]) {
      const points = curve[name].map((v, i) => (v === null ? null : [this.x(curve.step[i]), 32 - (30 * v) / high]));
      const line = document.createElementNS(ns, "polyline");
      line.setAttribute("points", points.filter(Boolean).map((p) => p.map((x) => x.toFixed(1)).join(",")).join(" "));
      line.setAttribute("class", `wb-line-${name}`);
      this.node.append(line);
    }
    this.mark = document.createElementNS(ns, "line");
    this.mark.setAttribute("y1", 0);
    this.mark.setAttribute("y2", 34);
    this.mark.setAttribute("class", "wb-line-now");
    this.node.append(this.mark);
    this.keys = { forget: el("span"), retain: el("span") };
    this.legend = el(
      "span",
      { class: "wb-curve-key" },
      el("span", { class: "wb-key-forget" }, "forget NLL ", this.keys.forget),
      el("span", { class: "wb-key-retain" }, "retain NLL ", this.keys.retain),
    );
  }

  x(step) {
    return (400 * step) / this.last;
  }

  show(step) {
    this.mark.setAttribute("x1", this.x(step));
    this.mark.setAttribute("x2", this.x(step));
    const at = this.curve.step.findLastIndex((s) => s <= step);
    for (const name of ["forget", "retain"]) this.keys[name].textContent = at < 0 ? "" : number(this.curve[name][at]);
  }
}

/** Play, slider and curve; `move` gets the step. */
class Replay {
  constructor(scores, move) {
    this.steps = scores.steps;
    this.move = move;
    this.timer = null;
    this.button = el("button", { type: "button", class: "wb-button", onclick: () => this.toggle() }, "▶ Play");
    this.slider = el("input", { type: "range", min: 0, max: this.steps.length - 1, step: 1, "aria-label": "step of the run" });
    this.slider.addEventListener("input", () => {
      this.stop();
      move(this.steps[this.slider.value]);
    });
    this.now = el("span", { class: "wb-step-now" });
    this.node = el("div", { class: "wb-strip" }, this.button, this.now, this.slider);
    if (scores.head.curve.step.length > 1) {
      this.curve = new Curve(scores.head.curve);
      this.node.append(this.curve.node, this.curve.legend);
    }
  }

  toggle() {
    if (this.timer) return this.stop();
    this.button.textContent = "❚❚ Pause";
    if (Number(this.slider.value) === this.steps.length - 1) this.move(this.steps[0]);
    this.timer = setInterval(() => {
      const next = Number(this.slider.value) + 1;
      if (next >= this.steps.length) return this.stop();
      this.move(this.steps[next]);
    }, Math.max(120, Math.min(600, 8000 / this.steps.length)));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "▶ Play";
  }

  show(step) {
    this.slider.value = this.steps.findLastIndex((s) => s <= step);
    this.slider.setAttribute("aria-valuetext", `step ${step}`);
    this.now.textContent = `step ${step} of ${this.steps.at(-1)}`;
    this.curve?.show(step);
  }
}
