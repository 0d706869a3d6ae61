// Building nodes. Texts only ever become text nodes, so nothing a buyer writes can become markup.

const SVG = "http://www.w3.org/2000/svg";
const shapes = {
  refresh: "M13.2 8A5.2 5.2 0 1 1 11.6 4.3M13.4 2.2v3.2h-3.2",
  image: "M2.5 3.5h11v9h-11zM2.8 11.5 6 8l2.4 2.4L10.5 8l2.8 3.2M5.6 6.2h.01",
  copy: "M6 6h7.5v7.5H6zM3.8 10H2.5V2.5H10v1.3",
  plug: "M5.5 2v3M10.5 2v3M3.5 5h9v2.6a4.5 4.5 0 0 1-9 0zM8 12v2",
  clock: "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 8 2.2zM8 4.8V8l2.2 1.6",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.4 10.4l3.1 3.1",
  check: "M3 8.5l3.2 3.2L13 5",
  checks: "M1.5 8.5 4.6 11.7 10 5.5M7.4 11l.7.7L14.5 5",
  send: "M14 2 2 6.8l4.7 2.1L14 2zM14 2 9.2 14 6.7 8.9",
  person: "M8 8a2.8 2.8 0 1 0 0-5.6A2.8 2.8 0 0 0 8 8zM2.8 13.8c.5-2.8 2.5-4.2 5.2-4.2s4.7 1.4 5.2 4.2",
  cross: "M4 4l8 8M12 4l-8 8",
  hold: "M5.5 3.5v9M10.5 3.5v9",
  ask: "M5.6 6a2.4 2.4 0 1 1 3.5 2.1c-.7.4-1.1.8-1.1 1.6M8 12.4h.01",
  box: "M2.5 5 8 2.2 13.5 5v6L8 13.8 2.5 11zM2.5 5 8 7.8 13.5 5M8 7.8v6",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "i");
  return shape(svg, name);
}
export function shape(svg, name) {
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", shapes[name]);
  svg.replaceChildren(path);
  return svg;
}

// el("p.small", {dir: "auto"}, "text", node, …); null and false children are left out.
export function el(name, ...rest) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const part of rest.flat()) {
    if (part === null || part === undefined || part === false) continue;
    if (part instanceof Node) node.append(part);
    else if (typeof part === "object") {
      for (const [key, value] of Object.entries(part)) {
        if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
        else if (value === true) node.setAttribute(key, "");
        else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
      }
    } else node.append(String(part));
  }
  return node;
}

export const $ = (id) => document.getElementById(id);
