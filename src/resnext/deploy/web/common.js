"use strict";
// What the pages share: elements, numbers, copying, light and dark.

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const plain = (value) => value.toLocaleString("en");

// What is drawn on the server or by the generator; never a user's text.
const drawing = (svg) => document.importNode(
  new DOMParser().parseFromString(svg, "image/svg+xml").documentElement, true);

function problem(text) {
  const place = one("#problem");
  place.hidden = !text;
  place.textContent = text || "";
}

async function copy(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    document.execCommand("copy"); // pages that come without encryption have no clipboard
  }
}

problem("");
const theme = one("#theme");
theme.hidden = false;
theme.onclick = () => {
  const scheme = getComputedStyle(document.documentElement).getPropertyValue("--scheme").trim();
  document.documentElement.dataset.theme = scheme === "dark" ? "light" : "dark";
};
