"use strict";

const NONE = "none_of_these"; // the class of images of none of the labels
const MOST_SHOWN = 20; // labels of one image; results are kept to the same number

const element = id => document.getElementById(id);
const percent = share => share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
let token = ""; // in memory only: it is gone when the page is

function say(text, isFault = false) {
  element("status").textContent = text;
  element("status").classList.toggle("fault", isFault);
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  if (response.status === 401) {
    element("access").hidden = false;
    element("token").focus();
    throw new Error(token ? "Invalid token." : "This service needs an access token.");
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `The service answered ${response.status}.`);
  return content;
}

async function introduce() {
  try {
    const model = await ask("metadata");
    element("access").hidden = true;
    element("model").textContent = `${model.name}, version ${model.version}: ${model.labels.map(inWords).join(", ")}`;
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

async function label(files) {
  const images = [...files].filter(file => file.type.startsWith("image/") || !file.type);
  if (!images.length) return say("None of these is an image.", true);
  const faults = [];
  for (const [i, file] of images.entries()) {
    say(images.length > 1 ? `Scoring ${i + 1} of ${images.length} …` : "Scoring …");
    try {
      const answer = await ask(element("explain").checked ? "score?explain=1" : "score", { method: "POST", body: file, headers: { "Content-Type": file.type || "image/unknown" } });
      show(file, answer);
      say(`${file.name}: ${summary(answer)}`);
    } catch (error) {
      faults.push(`${file.name}: ${error.message.replace(/^image: /, "")}`);
    }
  }
  if (faults.length) say(faults.join(" · "), true);
}

function inWords(label) {
  return label === NONE ? "none of the labels" : label;
}

function isUnfamiliar(answer) {
  return answer.familiar_from > answer.images[0].familiarity; // false if one is null
}

function summary(answer) {
  const image = answer.images[0];
  const best = Object.entries(image.scores).reduce((one, other) => other[1] > one[1] ? other : one)[0];
  if (image.reason) return `${image.reason}, perhaps ${inWords(best)}, ${percent(image.probability)}`;
  return `${inWords(image.label)}, ${percent(image.probability)}${isUnfamiliar(answer) ? ", but unfamiliar" : ""}`;
}

// Why no label is given, or why not to rely on it; empty if neither.
function doubt(answer) {
  const image = answer.images[0];
  if (image.reason === "unfamiliar") return "This image is unlike the training images, so it gets no label. The table says what comes closest.";
  const unfamiliar = isUnfamiliar(answer) ? "Unfamiliar: this image is unlike the training images. Its label may be wrong, even with a high probability. " : "";
  return unfamiliar + (image.reason ? `No label reaches a probability of ${100 * answer.reject_below} %.` : "");
}

function familiarity(answer) {
  const found = answer.images[0].familiarity;
  if (found === null) return "";
  return `Familiarity ${found.toFixed(2)}${answer.familiar_from ? `; unfamiliar below ${answer.familiar_from.toFixed(2)}` : ""}`;
}

function show(file, answer) {
  const image = answer.images[0];
  const item = element("result").content.cloneNode(true).firstElementChild;
  const picture = item.querySelector("img");
  picture.src = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  item.querySelector("figcaption").textContent = file.name;
  if (image.explanation) showMap(item, image.explanation);
  item.querySelector("h2").textContent = image.reason ?? inWords(image.label);
  const note = item.querySelector(".doubt");
  note.textContent = doubt(answer);
  note.hidden = !note.textContent;
  note.classList.toggle("unfamiliar", isUnfamiliar(answer));
  item.querySelector(".familiarity").textContent = familiarity(answer);
  const labels = Object.keys(image.scores).sort((one, other) => image.scores[other] - image.scores[one]);
  item.querySelector("tbody").append(...labels.slice(0, MOST_SHOWN).map((name, rank) => row(name, image, rank === 0)));
  const rest = labels.length > MOST_SHOWN ? `, ${labels.length - MOST_SHOWN} more labels below these` : "";
  item.querySelector(".facts").textContent = `${answer.milliseconds} ms, version ${answer.model.version}${rest}`;
  element("results").prepend(item);
  while (element("results").children.length > MOST_SHOWN) element("results").lastElementChild.remove();
}

// As a blob: the content security policy of the page allows no data URLs.
function showMap(item, url) {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), letter => letter.charCodeAt(0));
  const picture = document.createElement("img");
  picture.className = "map";
  picture.alt = "The same image under the activation map of the first label";
  picture.src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = "Yellow: speaks most for the first label. Violet: does not.";
  item.querySelector("figure").append(picture, note);
}

function row(name, image, isBest) {
  const line = document.createElement("tr");
  line.classList.toggle("best", isBest);
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = inWords(name);
  const bar = document.createElement("td");
  bar.className = "bar";
  bar.innerHTML = '<span class="trough" aria-hidden="true"><span></span></span>';
  bar.querySelector(".trough > span").style.width = `${100 * image.probabilities[name]}%`;
  const numbers = [percent(image.probabilities[name]), image.scores[name].toFixed(2)].map(text => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  line.append(head, bar, ...numbers);
  return line;
}

element("files").addEventListener("change", event => {
  label(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
element("access").addEventListener("submit", event => {
  event.preventDefault();
  token = element("token").value.trim();
  introduce();
});
// Anywhere on the page: a file that misses the field would replace the page otherwise.
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, event => { event.preventDefault(); element("drop").classList.add("over"); });
}
document.addEventListener("dragleave", event => { if (!event.relatedTarget) element("drop").classList.remove("over"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  element("drop").classList.remove("over");
  label(event.dataTransfer.files);
});
document.addEventListener("paste", event => { if (event.clipboardData.files.length) label(event.clipboardData.files); });
introduce();
