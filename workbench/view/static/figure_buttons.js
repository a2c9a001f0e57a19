// The buttons of save.js for a box of other widgets; hidden where there is nothing to save.

export default {
  render({ model, el: host }) {
    const [name, what] = [model.get("name"), model.get("what")];
    const saving = saver(model, name, () => ({ part: model.get("part") }), model.get("formats"), what);
    const show = () => (host.style.display = model.get("ready") ? "" : "none");
    model.on("change:ready", show);
    show();
    host.append(saving.node);
    return () => {
      saving.remove();
      model.off("change:ready", show);
    };
  },
};
