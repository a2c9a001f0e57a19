// A token view: traits of the Python object on one side, bar, text and strip on the other.

class View {
  constructor(model, root) {
    this.model = model;
    this.scores = new Scores(model.get("head"), model.get("codes"), model.get("books"), model.get("details"));
    this.thresholds = new Map();
    this.root = root;
    this.card = new Card(root, this.scores);
    this.text = new Text(this.scores, {
      hover: (token, mark) => this.card.show(token, mark, model.get("step")),
      leave: () => this.card.hide(),
      choose: (tokens) => this.set("chosen", tokens),
    });
    this.text.box.setAttribute("aria-describedby", this.card.node.id);
    this.save = throttled(() => model.save_changes(), 80);
    this.build();
    this.release = guardKeys(root);
    const traits = ["scorer", "step", "threshold", "unit", "by", "sort", "search", "chosen"];
    this.listeners = traits.map((name) => [`change:${name}`, () => this.update(name)]);
    for (const [name, call] of this.listeners) model.on(name, call);
    this.update(this.foreign() ? "scorer" : "all");
  }

  /** Whether the threshold is another scorer's: Python has changed the scorer before the view was shown. */
  foreign() {
    const threshold = this.model.get("threshold"), layer = this.layer();
    return layer.threshold !== threshold && this.scores.layers.some((other) => other.threshold === threshold);
  }

  set(name, value) {
    if (this.model.get(name) === value) return;
    this.model.set(name, value);
    this.save();
  }

  build() {
    const { scores, model } = this;
    const layers = scores.layers.map((layer) => [layer.name, layer.name]);
    this.scorer = choice(layers, model.get("scorer"), (name) => this.set("scorer", name));
    this.legend = el("span");
    this.slider = el("input", { type: "range", step: 0.005, "aria-label": "threshold" });
    this.slider.addEventListener("input", () => {
      const layer = this.layer();
      const threshold = scores.at(layer, Number(this.slider.value));
      this.thresholds.set(layer.name, threshold);
      this.set("threshold", threshold);
    });
    this.by = choice(BY.map((by) => [by, by]), model.get("by"), (by) => this.set("by", by));
    this.limit = el("b");
    this.summary = el("span", { class: "wb-last" });
    this.trust = el("span", { class: "wb-trust" });
    const threshold = el("span", { class: "wb-control" }, "threshold ", this.slider, this.limit);
    const bar = el("div", { class: "wb-bar" }, labelled("scorer", this.scorer), this.legend,
      labelled("colour by", this.by), threshold, this.summary, this.trust);
    this.unit = choice([["token", "tokens"], ["word", "words"]], model.get("unit"), (unit) => this.set("unit", unit));
    const sorts = [["order", "table order"], ["score", "score"]];
    for (const name of Object.keys(scores.head.orders)) sorts.push([name, name]);
    this.sort = choice(sorts, model.get("sort"), (sort) => this.set("sort", sort));
    this.search = el("input", { type: "search", placeholder: "find a text", "aria-label": "search" });
    this.search.value = model.get("search");
    this.search.addEventListener("input", () => this.set("search", this.search.value));
    this.shown = el("span", { class: "wb-last", "aria-live": "polite" });
    const tools = el("div", { class: "wb-bar wb-tools" }, labelled("show", this.unit), labelled("sort by", this.sort),
      this.search, this.shown);
    const head = model.get("title") ? [el("p", { class: "wb-title" }, model.get("title"))] : [];
    const spans = scores.spans.includes(1) ? "Dotted line above: labelled span. " : "";
    const foot = el("div", { class: "wb-foot" }, `Underlined: selected by the threshold. ${spans}Hover over a token, or move ` +
      "to it with the arrow keys, for its numbers. Click or press Enter to select it; hold Shift to select several.");
    this.root.append(...head, bar, ...(scores.head.samples.length > 1 ? [tools] : []), this.text.box);
    if (scores.steps.length > 1) {
      this.replay = new Replay(scores, (step) => this.set("step", step));
      this.root.append(this.replay.node);
    }
    this.saver = saver(model, "heatmap");
    foot.append(" ", this.saver.node);
    this.root.append(foot);
  }

  layer() {
    return this.scores.layer(this.model.get("scorer"));
  }

  update(what) {
    const { model, scores } = this;
    if (model.get("head") !== scores.head) return; // a newer table has come with this change; its view is drawn next
    const layer = this.layer();
    this.by.value = scores.by = model.get("by");
    if (what === "scorer") { // each scorer has a threshold of its own
      const own = this.thresholds.get(layer.name) ?? layer.threshold;
      if (own !== model.get("threshold")) return this.set("threshold", own), this.update("all");
    }
    const unit = model.get("unit");
    const state = { layer, step: model.get("step"), unit, threshold: model.get("threshold") };
    this.scorer.value = layer.name;
    this.unit.value = unit;
    this.sort.value = model.get("sort");
    if (this.search.value !== model.get("search")) this.search.value = model.get("search");
    if (["all", "sort", "search", "scorer", "step"].includes(what)) this.arrange(layer, state.step);
    const chosen = model.get("chosen");
    if (String(this.text.chosen) === String(chosen)) this.text.paint(state);
    else (this.text.state = state), this.text.choose(chosen);
    this.legend.replaceChildren(legend(scores, layer, state.threshold));
    const usable = layer.scale !== null && !layer.scale.flat;
    this.slider.disabled = !usable;
    if (usable) {
      this.slider.min = layer.scale.low < 0 ? -1 : 0;
      this.slider.max = 1;
      if (state.threshold !== null) this.slider.value = scores.place(layer, state.threshold);
      this.slider.setAttribute("aria-valuetext", number(state.threshold));
    }
    this.limit.textContent = state.threshold === null ? "none" : number(state.threshold);
    this.summary.replaceChildren(summary(scores, state));
    this.trust.textContent = layer.trust;
    this.trust.hidden = !layer.trust;
    this.replay?.show(state.step);
    if (what === "step" || what === "scorer") this.card.hide();
  }

  arrange(layer, step) {
    const { model, scores } = this;
    const sort = model.get("sort");
    let values = null;
    if (sort === "score") values = scores.sampleMeans(layer, step);
    else if (sort !== "order") values = this.ordered(scores.head.orders[sort], sort === "damage" ? -1 : 1);
    const scored = scores.scored(layer, step);
    const shown = this.text.arrange(model.get("search"), values, scored);
    const total = scores.head.samples.length;
    const without = scored.filter((has) => !has).length;
    const rest = without ? ` · ${without} without a score${scores.steps.length > 1 ? ` at step ${scores.stepOf(layer, step)}` : ""}` : "";
    this.shown.textContent = (shown < total ? `${shown} of ${total} samples` : `${total} samples`) + rest;
  }

  /** Values of an order, the one to come first being the largest: damage is a loss of probability. */
  ordered(values, sign) {
    return this.scores.head.samples.map((sample) => {
      const value = values?.[sample.id] ?? null;
      return value === null ? null : sign * value;
    });
  }

  remove() {
    this.replay?.stop();
    this.saver.remove();
    this.release();
    this.text.watcher.disconnect();
    for (const [name, call] of this.listeners) this.model.off(name, call);
  }
}

export default {
  render({ model, el: host }) {
    host.classList.add("wb-host");
    let view = null;
    const controls = () => [...host.querySelectorAll("select, input, button, [tabindex]")];
    // A new table may come while somebody is in the old one by keyboard: focus and place stay.
    const draw = () => {
      const [before, focus] = [controls(), host.getRootNode().activeElement];
      const [focused, inText] = [before.indexOf(focus), focus === view?.text.box];
      const [place, words] = [view?.text.current ?? -1, view?.text.words()];
      view?.remove();
      const root = el("div", { class: "wb wb-live" });
      host.replaceChildren(root);
      view = new View(model, root);
      if (focused < 0 || controls().length !== before.length) return;
      controls()[focused].focus({ preventScroll: true });
      if (inText && place >= 0 && view.text.words() === words) view.text.go(place);
    };
    draw();
    model.on("change:head", draw);
    return () => {
      model.off("change:head", draw);
      view.remove();
    };
  },
};
