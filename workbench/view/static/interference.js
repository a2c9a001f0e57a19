// Two maps of domains made interactive: arrow keys move in them, a cell's values are read out, and a pair that is chosen
// is told to Python, which answers with the tokens that carry the damage.

const MOVES = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], PageDown: [10, 0], PageUp: [-10, 0] };

const interactive = (table, tell, choose) => {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
  const box = table.parentElement;
  for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", `${table.className.includes("damage") ? "damage" : "prediction"}; arrow keys move, Enter shows what carries it`);
  table.tabIndex = 0;
  let place = null;
  const show = ([i, j]) => {
    const cell = rows[i]?.[j];
    if (!cell) return null;
    table.querySelector(".wb-cur")?.classList.remove("wb-cur");
    cell.classList.add("wb-cur");
    cell.id ||= `wb-i${Math.random().toString(36).slice(2)}`;
    table.setAttribute("aria-activedescendant", cell.id);
    place = [i, j];
    tell(cell.title);
    return cell;
  };
  const at = (event) => {
    const i = rows.findIndex((row) => row.includes(event.target.closest("td")));
    return [i, i < 0 ? -1 : rows[i].indexOf(event.target.closest("td"))];
  };
  table.addEventListener("mouseover", (event) => show(at(event)));
  table.addEventListener("focus", () => place ?? show([0, 0]));
  table.addEventListener("click", (event) => {
    const [i, j] = at(event);
    if (i >= 0) choose([i, j]);
  });
  table.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [i, j] = place ?? [0, 0];
    const within = (n, most) => Math.min(most - 1, Math.max(0, n));
    const go = (to) => show(to)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (MOVES[event.key]) go([within(i + MOVES[event.key][0], rows.length), within(j + MOVES[event.key][1], rows[0].length)]);
    else if (event.key === "Home" || event.key === "End") go([i, event.key === "Home" ? 0 : rows[0].length - 1]);
    else if (event.key === "Enter" || event.key === " ") choose([i, j]);
    else return;
    event.preventDefault();
  });
  return (pair) => rows.forEach((row, i) => row.forEach((cell, j) => {
    cell.classList.toggle("wb-chosen", pair.length > 0 && pair[0] === i && pair[1] === j);
    cell.setAttribute("aria-selected", pair.length > 0 && pair[0] === i && pair[1] === j);
  }));
};

export default {
  render({ model, el: host }) {
    const root = el("div", { class: "wb-linked" });
    const frame = el("div");
    const detail = el("div", { "aria-live": "polite" });
    const readout = el("div", { class: "wb-readout", role: "status" });
    root.append(frame, detail);
    let marks = [];
    const set = (name, value) => {
      model.set(name, value);
      model.save_changes();
    };
    const tell = (title) => {
      const [first, ...rest] = title.split("\n");
      readout.replaceChildren(el("b", {}, first), " ", rest.join(" · "));
    };
    const mark = () => marks.forEach((each) => each(model.get("chosen")));
    const pick = () => {
      for (const [name, trait] of [["damage", "metric"], ["predicted", "predictor"]])
        for (const input of root.querySelectorAll(`input[name="wb-${name}"]`)) input.checked = input.value === model.get(trait);
    };
    const explain = () => {
      detail.innerHTML = model.get("detail");
    };
    const draw = () => {
      frame.innerHTML = model.get("html");
      const choose = ([i, j]) => {
        const [a, b] = model.get("chosen");
        set("chosen", a === i && b === j ? [] : [i, j]);
      };
      marks = [...frame.querySelectorAll(".wb-maps table")].map((table) => interactive(table, tell, choose));
      for (const [name, trait] of [["damage", "metric"], ["predicted", "predictor"]])
        for (const input of frame.querySelectorAll(`input[name="wb-${name}"]`)) input.addEventListener("change", () => set(trait, input.value));
      readout.replaceChildren("Hover over a pair, or move with the arrow keys. Click or press Enter to see which tokens carry the damage.");
      frame.querySelector(".wb-maps").after(readout);
      pick();
      mark();
    };
    const listeners = [["change:html", draw], ["change:metric", pick], ["change:predictor", pick], ["change:chosen", mark], ["change:detail", explain]];
    for (const [name, call] of listeners) model.on(name, call);
    host.append(root);
    draw();
    explain();
    const release = guardKeys(root);
    return () => {
      release();
      for (const [name, call] of listeners) model.off(name, call);
    };
  },
};
