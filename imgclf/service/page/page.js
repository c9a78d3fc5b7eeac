"use strict";

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
    element("model").textContent = `${model.name}, version ${model.version}: ${model.labels.join(", ")}`;
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
      const answer = await ask("score", { method: "POST", body: file, headers: { "Content-Type": file.type || "image/unknown" } });
      show(file, answer);
      say(`${file.name}: ${summary(answer.images[0])}`);
    } catch (error) {
      faults.push(`${file.name}: ${error.message.replace(/^image: /, "")}`);
    }
  }
  if (faults.length) say(faults.join(" · "), true);
}

function summary(image) {
  const best = Object.entries(image.scores).reduce((one, other) => other[1] > one[1] ? other : one)[0];
  return image.unsure ? `unsure, perhaps ${best}, ${percent(image.probability)}` : `${image.label}, ${percent(image.probability)}`;
}

function show(file, answer) {
  const image = answer.images[0];
  const item = element("result").content.cloneNode(true).firstElementChild;
  const picture = item.querySelector("img");
  picture.src = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  item.querySelector("figcaption").textContent = file.name;
  item.querySelector("h2").textContent = image.unsure ? "unsure" : image.label;
  const note = item.querySelector(".unsure-note");
  note.hidden = !image.unsure;
  note.textContent = `No label reaches a probability of ${100 * answer.reject_below} %.`;
  const labels = Object.keys(image.scores).sort((one, other) => image.scores[other] - image.scores[one]);
  item.querySelector("tbody").append(...labels.slice(0, MOST_SHOWN).map((name, rank) => row(name, image, rank === 0)));
  const rest = labels.length > MOST_SHOWN ? `, ${labels.length - MOST_SHOWN} more labels below these` : "";
  item.querySelector(".facts").textContent = `${answer.milliseconds} ms, version ${answer.model.version}${rest}`;
  element("results").prepend(item);
  while (element("results").children.length > MOST_SHOWN) element("results").lastElementChild.remove();
}

function row(name, image, isBest) {
  const line = document.createElement("tr");
  line.classList.toggle("best", isBest);
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
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
