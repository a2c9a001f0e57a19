// Runs side by side: a point of the plot, or a button above the answers, shows the answers of that run alone.
// The HTML is the static twin from the templates of `workbench.view`, which escape every text.

export default {
  render({ model, el: host }) {
    const root = document.createElement("div");
    root.className = "wb-runs-compared";
    root.innerHTML = model.get("html");
    const same = root.querySelector(".wb-same");
    const points = [...root.querySelectorAll(".wb-point")];
    const letters = [...root.querySelectorAll(".wb-runs li > b")].map((node) => node.textContent);
    const chips = new Map();
    const choose = (letter) => {
      model.set("chosen", letter);
      model.save_changes();
    };
    const show = () => {
      const chosen = model.get("chosen");
      for (const pair of root.querySelectorAll(".wb-pair[data-run]")) pair.hidden = chosen !== "" && pair.dataset.run !== chosen;
      for (const [letter, chip] of chips) chip.setAttribute("aria-pressed", letter === chosen);
      for (const point of points) point.setAttribute("aria-current", point.dataset.run === chosen);
    };
    const savers = [];
    const download = (frame, name, part, formats) => {
      const saving = saver(model, name, () => ({ part }), formats);
      savers.push(saving);
      frame?.append(el("div", { class: "wb-foot" }, saving.node));
    };
    if (same) {
      for (const letter of ["", ...letters]) {
        const chip = el("button", { type: "button", class: "wb-chip" }, letter || "all runs");
        chip.addEventListener("click", () => choose(letter));
        chips.set(letter, chip);
      }
      same.before(el("div", { class: "wb-chips", role: "group", "aria-label": "whose answers" }, ...chips.values()));
      same.tabIndex = 0;
      same.setAttribute("role", "region");
      same.setAttribute("aria-label", "the same answers, scrolls");
      download(same.parentElement, "answers", "answers");
    }
    if (points.length) download(root.querySelector(".wb-tradeoff").parentElement, "tradeoff", "tradeoff", ["svg", "pdf", "png"]);
    for (const point of points) {
      point.addEventListener("click", (event) => {
        event.preventDefault();
        choose(point.dataset.run);
        same?.scrollIntoView({ block: "nearest" });
        same?.focus({ preventScroll: true });
      });
    }
    model.on("change:chosen", show);
    show();
    const release = guardKeys(root);
    host.append(root);
    return () => {
      release();
      for (const saving of savers) saving.remove();
      model.off("change:chosen", show);
    };
  },
};
