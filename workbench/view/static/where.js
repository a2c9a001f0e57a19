// A map of layers and tokens made interactive: arrow keys move in it, the cell's values are read out below, and a token
// that is selected is told to Python. The HTML is the static twin from the templates, which escape every text.

const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], PageDown: [10, 0], PageUp: [-10, 0] };

class Map2D {
  constructor(model, frame) {
    this.model = model;
    this.frame = frame;
    this.box = frame.querySelector(".wb-grid-box");
    this.table = this.box.querySelector("table");
    this.rows = [...this.table.tBodies[0].rows];
    this.place = null; // [row, column] of the cell that is read out
    for (const name of ["tabindex", "role", "aria-label"]) this.box.removeAttribute(name);
    this.table.setAttribute("role", "grid");
    this.table.setAttribute("aria-label", "tokens and layers; arrow keys move, Enter selects a token");
    this.table.tabIndex = 0;
    this.readout = el("div", { class: "wb-readout", role: "status" }, "Hover over a cell, or move with the arrow keys. Click or press Enter to select the token.");
    frame.append(this.readout);
    this.listen();
  }

  cell([row, column]) {
    return this.rows[row]?.querySelectorAll("td")[column];
  }

  show(place) {
    const cell = this.cell(place);
    if (!cell) return;
    this.table.querySelector(".wb-cur")?.classList.remove("wb-cur");
    cell.classList.add("wb-cur");
    cell.id ||= `wb-w${Math.random().toString(36).slice(2)}`;
    this.table.setAttribute("aria-activedescendant", cell.id);
    this.place = place;
    const lines = cell.title.split("\n");
    this.readout.replaceChildren(el("b", {}, lines[0]), " ", lines.slice(1).join(" · "));
    return cell;
  }

  choose(row) {
    const chosen = this.model.get("chosen") === row ? -1 : row;
    this.model.set("chosen", chosen);
    this.model.save_changes();
  }

  mark(chosen) {
    this.rows.forEach((row, i) => {
      row.classList.toggle("wb-chosen", i === chosen);
      row.setAttribute("aria-selected", i === chosen);
    });
    if (this.rows[chosen]) this.rows[chosen].querySelector("td").scrollIntoView({ block: "nearest" });
  }

  /** Scroll the box to the fact where it would be out of sight. */
  toFact() {
    const row = this.table.querySelector(".wb-chosen, .wb-fact");
    if (row && row.offsetTop + row.offsetHeight > this.box.clientHeight) this.box.scrollTop = row.offsetTop - this.box.clientHeight / 2;
  }

  listen() {
    const at = (event) => {
      const row = this.rows.indexOf(event.target.closest?.("tbody tr"));
      const cells = row < 0 ? [] : [...this.rows[row].querySelectorAll("td")];
      return [row, cells.indexOf(event.target.closest("td"))];
    };
    this.table.addEventListener("mouseover", (event) => this.show(at(event)));
    this.table.addEventListener("click", (event) => {
      const [row] = at(event);
      if (row >= 0 && getSelection().isCollapsed) this.choose(row);
    });
    this.table.addEventListener("focus", () => this.place ?? this.show([Math.max(0, this.model.get("chosen")), 0]));
    this.table.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const [row, column] = this.place ?? [0, 0];
      const last = [this.rows.length - 1, this.rows[0].querySelectorAll("td").length - 1];
      const within = (i, axis) => Math.min(last[axis], Math.max(0, i));
      if (STEPS[event.key]) {
        const [down, right] = STEPS[event.key];
        this.show([within(row + down, 0), within(column + right, 1)]).scrollIntoView({ block: "nearest", inline: "nearest" });
      } else if (event.key === "Home" || event.key === "End") {
        this.show([row, event.key === "Home" ? 0 : last[1]]).scrollIntoView({ block: "nearest", inline: "nearest" });
      } else if (event.key === "Enter" || event.key === " ") this.choose(row);
      else if (event.key === "Escape" && this.model.get("chosen") >= 0) this.choose(this.model.get("chosen"));
      else return;
      event.preventDefault();
    });
  }
}

export default {
  render({ model, el: host }) {
    const root = el("div", { class: "wb-linked" });
    let map = null;
    const set = (name, value) => {
      model.set(name, value);
      model.save_changes();
    };
    const choices = () => [...root.querySelectorAll(".wb-pick input")];
    const saving = saver(model, "where", () => ({}), ["svg", "pdf", "png"]);
    const foot = el("div", { class: "wb-foot" });
    foot.append(saving.node);
    const draw = () => {
      root.innerHTML = model.get("html");
      const frame = root.querySelector(".wb-where");
      map = new Map2D(model, frame);
      const labels = model.get("answers");
      if (labels.length > 1) {
        const select = el("select", { "aria-label": "answer", onchange: () => set("answer", Number(select.value)) });
        select.append(...labels.map((label, i) => el("option", { value: i }, label)));
        select.value = model.get("answer");
        frame.prepend(el("div", { class: "wb-pick" }, el("span", {}, "answer"), select));
      }
      for (const input of choices()) input.addEventListener("change", () => set("value", input.value));
      pick();
      map.mark(model.get("chosen"));
      map.toFact();
      frame.append(foot);
    };
    const pick = () => {
      for (const input of choices()) input.checked = input.value === model.get("value");
    };
    const mark = () => map.mark(model.get("chosen"));
    const listeners = [["change:html", draw], ["change:value", pick], ["change:chosen", mark]];
    for (const [name, call] of listeners) model.on(name, call);
    host.append(root);
    draw();
    const release = guardKeys(root);
    return () => {
      release();
      saving.remove();
      for (const [name, call] of listeners) model.off(name, call);
    };
  },
};
