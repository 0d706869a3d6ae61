// The buyer's chat.

import { $, el, icon } from "./dom.js";
import { burst, burstName, chips, currentLanguage, named, reason, span, t } from "./texts.js";
import { orderLook } from "./setup.js";

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

function picture(url) {
  // By path: the page may have been opened under another name of this machine than the one in the address.
  return el("img", { src: new URL(url, location.href).pathname, alt: t("image_alt") });
}

function card(state, message) {
  const order = state.allOrders().find((one) => one.order_id === message.order_id);
  const product = state.shop().products.find((one) => one.id === message.product_id);
  if (!order && !product) return null;
  const title = order ? order.items[0].title : product.title;
  const line = order ? t("order_of", order.order_id, orderLook(order)[1]) : `¥${product.price}`;
  return el("div.msg.me", el("div.card", el("span.thumb", icon("box")), el("div", title, el("p.small.dim", line))));
}

function line(state, message, { select, again }) {
  const mine = message.author === "buyer";
  const body = message.content.type === "image" ? picture(message.content.url) : message.content.text ?? `[${message.content.type}]`;
  const meta = [];
  if (mine && message.state !== "pushed") meta.push(t(`state_${message.state}`));
  if (!mine && message.author !== "bot") meta.push(t(message.author === "agent" ? "by_agent" : "by_system"));
  if (!mine && message.after_ms !== null) meta.push(t("after", span(message.after_ms)));
  const failed = message.state === "failed";
  const bubble = mine
    ? el("button.bubble", { type: "button", dir: "auto", "aria-pressed": String(state.selected === message.id), onclick: () => select(message.id) }, body)
    : el("div.bubble", { dir: "auto" }, body);
  return el(`div.msg${mine ? ".me" : ""}`, { "data-id": message.id }, bubble,
    meta.length > 0 && el(`div.meta${failed ? ".bad" : ""}`, meta.join(" · "), failed && message.local !== undefined && el("button.link", { type: "button", onclick: () => again(message) }, t("again"))));
}

function handover(state, message) {
  const handed = state.handed.get(message.id);
  return handed && el("div.event", t("handed", named("group", handed.group), reason(handed.reason)));
}

export function drawChat(state, actions) {
  const shop = state.shop();
  $("chat-name").textContent = shop.name;
  const owner = state.owner();
  $("chat-state").textContent = !shop.open ? t("shop_closed") : owner === "queued" ? t("waiting_human") : owner === "human" ? t("with_human") : t("usually");
  const box = $("lines");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  const focused = document.activeElement?.closest?.("#lines .msg")?.dataset.id;
  const nodes = [];
  let before = null, attached = null;
  for (const message of state.messages()) {
    if (before === null || message.at_ms - before > 5 * 60e3) nodes.push(["time", `t${message.at_ms}`, () => el("div.when", clock(message.at_ms))]);
    before = message.at_ms;
    if (message.author === "buyer") {
      const now = message.order_id ?? message.product_id ?? "";
      if (now && now !== attached) nodes.push(["card", `c${message.id}`, () => card(state, message)]);
      attached = now;
    }
    const look = [message.state, state.selected === message.id, message.after_ms, currentLanguage()].join();
    nodes.push(["line", `${message.id}|${look}`, () => line(state, message, actions)]);
    if (state.handed.has(message.id)) nodes.push(["event", `h${message.id}|${currentLanguage()}`, () => handover(state, message)]);
  }
  if (!nodes.length) nodes.push(["empty", `empty|${currentLanguage()}`, () => el("p.empty", el("b", t("chat_empty_title")), t("chat_empty"))]);
  // Nodes that haven't changed stay, so that readers of the live region hear only what is new.
  const kept = new Map([...box.children].map((node) => [node.dataset.key, node]));
  const wanted = nodes.map(([, key, make]) => kept.get(key) ?? withKey(make() ?? el("span"), key));
  const keep = new Set(wanted);
  for (const node of [...box.children]) if (!keep.has(node)) node.remove();
  wanted.forEach((node, place) => {
    if (box.children[place] !== node) box.insertBefore(node, box.children[place] ?? null);
  });
  if (atEnd) box.scrollTop = box.scrollHeight;
  if (focused) box.querySelector(`[data-id="${CSS.escape(focused)}"] .bubble`)?.focus({ preventScroll: true });
}

function withKey(node, key) {
  node.dataset.key = key;
  return node;
}

export function drawChips(say) {
  const make = (name, texts) => el("button", { type: "button", onclick: () => say(texts) }, name);
  $("chips").replaceChildren(...chips.map(([text]) => make(text, [text])), make(burstName[currentLanguage()], burst));
}
