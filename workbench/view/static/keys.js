// Keys in a widget: its controls keep theirs, such as arrows in a list, and JupyterLab's own (Ctrl+S, ...) go on working.
// JupyterLab takes a key as a shortcut unless the focused element itself has the attribute set below.

const EDITING = new Set(["a", "c", "v", "x", "y", "z", "Enter", "Backspace", "Delete", "Home", "End",
  "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]);

const guardKeys = (root) => {
  const guard = (event) => {
    if (!root.contains(event.target)) return;
    const command = (event.ctrlKey || event.metaKey) && !EDITING.has(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (command) event.target.removeAttribute("data-lm-suppress-shortcuts");
    else event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  };
  window.addEventListener("keydown", guard, true); // before JupyterLab's listener, which is the document's
  return () => window.removeEventListener("keydown", guard, true);
};
