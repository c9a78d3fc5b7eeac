// A field for the name of a label. Enter adds it, a button renames; leaving the field does nothing.

export default {
  render({ model, el }) {
    const closed = new AbortController();
    const listen = (target, type, act) => target.addEventListener(type, act, { signal: closed.signal });
    const field = Object.assign(document.createElement("input"), { type: "text", placeholder: "New label, Enter" });
    const rename = document.createElement("button");
    field.title = "Enter creates the label and gives it to the selected images; Esc clears the field";
    field.setAttribute("aria-label", "New label");
    rename.textContent = "Rename";
    rename.title = "Give the name in the field to the label of the current image; the name of another label merges the two";
    const clear = () => (field.value = "");
    listen(field, "keydown", (event) => {
      if (event.isComposing) return; // Enter and Escape belong to the input method
      if (event.key === "Enter") model.send({ add: field.value });
      if (event.key === "Escape") clear(); // the panel takes the focus
    });
    listen(rename, "click", () => model.send({ rename: field.value }));
    const onMessage = (content) => {
      if (!content.done) return;
      const hadFocus = el.contains(document.activeElement);
      clear();
      if (hadFocus) el.closest(".imgclf-panel")?.focus({ preventScroll: true });
    };
    model.on("msg:custom", onMessage);
    el.classList.add("imgclf-label-box");
    el.append(field, ...(model.get("can_rename") ? [rename] : []));
    return () => {
      closed.abort();
      model.off("msg:custom", onMessage);
    };
  },
};
