// Sends key presses inside the nearest .imgclf-panel to Python and hides them from the notebook, where `d d` would delete the cell.

const PANEL = ".imgclf-panel";
const KEEPS_FOCUS = "input, textarea, select, [contenteditable]:not([contenteditable='false']), [role='slider']";
const PRESSED_BY_KEY = "button, summary, a[href]"; // Space and Enter press it if it has the focus
const CHOSEN_AT_ONCE = "select, input[type='checkbox'], input[type='radio']";
const MAX_UNHANDLED = 8;
const MAX_FRAMES = 300; // about 5 s in the page without a panel around it: it was put elsewhere

// Returns the message for a key press, or null if the key is not captured.
function match(event, captured) {
  if (event.altKey || event.isComposing) return null;
  const ctrl = event.ctrlKey || event.metaKey;
  const listed = (name) => captured.includes(ctrl && name.length === 1 && name !== " " ? `Ctrl+${name}` : name);
  const key = names(event).find(listed);
  return key === undefined ? null : { key, shift: event.shiftKey, ctrl };
}

// The character comes first, then what is printed on the key, for keyboards where a digit needs Shift or letters are not Latin.
function names(event) {
  if (event.key.length > 1) return [event.key];
  const found = [event.key.toLowerCase()];
  const [, digit] = event.code.match(/^(?:Digit|Numpad)(\d)$/) ?? [];
  const [, letter] = event.code.match(/^Key([A-Z])$/) ?? [];
  if (digit) found.push(digit);
  if (letter && event.key > "~") found.push(letter.toLowerCase());
  return found;
}

// Ctrl+S must save the notebook, but JupyterLab ignores keys below an element with this attribute: remove it for one event.
function passToNotebook(panel) {
  panel.removeAttribute("data-lm-suppress-shortcuts");
  setTimeout(() => panel.setAttribute("data-lm-suppress-shortcuts", "true"));
}

function listen(panel, model, { signal, count }) {
  const send = (event) => {
    const message = match(event, model.get("captured"));
    if (!message) return;
    event.preventDefault();
    if (event.repeat && count.sent - model.get("handled") >= MAX_UNHANDLED) return;
    count.sent += 1;
    model.send(message);
  };
  const focus = () => panel.focus({ preventScroll: true });
  const isOwn = (event) => event.target.closest(PANEL) === panel; // and not of a panel inside this one
  const onKeyDown = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") return passToNotebook(panel);
    event.stopPropagation();
    if (event.target.closest(KEEPS_FOCUS)) return event.key === "Escape" && focus();
    if ((event.key === " " || event.key === "Enter") && event.target.closest(PRESSED_BY_KEY)) return;
    send(event);
  };

  panel.tabIndex = 0;
  panel.setAttribute("data-lm-suppress-shortcuts", "true");
  panel.addEventListener("keydown", onKeyDown, { signal });
  const onClick = (event) => isOwn(event) && (event.target.closest(KEEPS_FOCUS) || focus());
  const onChange = (event) => isOwn(event) && event.target.matches(CHOSEN_AT_ONCE) && focus();
  panel.addEventListener("click", onClick, { signal });
  panel.addEventListener("change", onChange, { signal });
  watchIdle(panel, model, { signal, count });
}

function watchIdle(panel, model, { signal, count }) {
  let timer;
  const onActivity = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      count.sent = model.get("handled"); // answers that were lost, as by a kernel restart, are no longer waited for
      model.send({ idle: true });
    }, 1000 * model.get("idle_seconds"));
  };
  for (const type of ["keydown", "click"]) panel.addEventListener(type, onActivity, { signal, capture: true });
  signal.addEventListener("abort", () => clearTimeout(timer));
}

// A view is created before it is put into its container, so wait for the container.
function whenInside(el, signal, found) {
  let frames = 0;
  const look = () => {
    if (signal.aborted) return;
    const panel = el.closest(PANEL);
    if (panel) return found(panel);
    if (el.isConnected && ++frames > MAX_FRAMES) return console.warn(`imgclf: Keys found no element ${PANEL} around it`);
    requestAnimationFrame(look);
  };
  look();
}

export default () => {
  const count = { sent: 0 }; // over all views of the model, as `handled` is
  return {
    initialize({ model }) {
      count.sent = model.get("handled");
    },
    render({ model, el }) {
      const closed = new AbortController();
      el.style.display = "none";
      whenInside(el, closed.signal, (panel) => listen(panel, model, { signal: closed.signal, count }));
      return () => closed.abort();
    },
  };
};
