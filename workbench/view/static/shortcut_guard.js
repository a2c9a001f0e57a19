// Beside other widgets: keeps JupyterLab from taking the keys that their controls need, such as arrows in a list.
// JupyterLab handles a key as a shortcut unless the focused element has the attribute set below.

const CONTROLS = "select,input,textarea,button,summary,[tabindex]";

export default {
  render({ el }) {
    el.style.display = "none";
    let watcher = null;
    const begin = requestAnimationFrame(() => {
      const root = el.closest(".wb-guarded");
      if (!root) return;
      const guard = () => {
        for (const node of root.querySelectorAll(CONTROLS)) node.setAttribute("data-lm-suppress-shortcuts", "true");
      };
      guard();
      watcher = new MutationObserver(guard);
      watcher.observe(root, { childList: true, subtree: true });
    });
    return () => {
      cancelAnimationFrame(begin);
      watcher?.disconnect();
    };
  },
};
