// The left column: who buys, with which order, and what the platform does wrong.

import { $, el } from "./dom.js";
import { named, t } from "./texts.js";

const HOUR = 3600e3;

export function orderLook(order) {
  const now = Date.now();
  const refund = order.refunds[0];
  if (refund) return [refund.status === "rejected" ? "red" : "amber", named("refund", refund.status)];
  if (["paid", "preparing"].includes(order.status) && Date.parse(order.promised_ship_at) < now) return ["red", t("status_overdue")];
  const look = { shipped: "accent", paid: "accent", preparing: "accent", delivered: "green" }[order.status] ?? "";
  return [look, named("status", order.status)];
}

function ago(text) {
  const minutes = Math.max(0, Math.round((Date.now() - Date.parse(text)) / 60e3));
  return minutes < 60 ? t("minutes_ago", minutes) : t("hours_ago", Math.round(minutes / 60));
}

function orderDetail(order) {
  const trace = order.status === "shipped" && order.shipments[0]?.latest_at;
  if (trace) {
    const hours = Math.round((Date.now() - Date.parse(trace)) / HOUR);
    return hours > 48 ? el("span.late", t("trace_stuck", hours)) : t("trace_at", ago(trace));
  }
  if (order.delivered_at) return ago(order.delivered_at);
  return `¥${order.total}`;
}

function option(node, lists) {
  node.replaceChildren(...lists);
}

export function drawWho(state) {
  option($("buyer"), state.world.buyers.map((one) => el("option", { value: one.key, selected: one.key === state.buyer }, one.nickname)));
  option($("tier"), state.world.tiers.map((one) => el("option", { value: one.key, selected: one.key === state.tier }, t(`tier_${one.key}`))));
  option($("shop"), state.world.shops.map((one) => el("option", { value: one.account_id, selected: one.account_id === state.account }, t("sandbox_shop", one.name))));
}

export function drawOrders(state, { choose, chooseProduct }) {
  const shop = state.shop();
  const radio = (value) => el("input", { type: "radio", name: "order", value, checked: (state.order ?? "") === value, onchange: () => choose(value || null) });
  const products = el("select", { "aria-label": t("product_of"), onchange: (event) => chooseProduct(event.target.value || null) },
    el("option", { value: "" }, t("any_product")),
    shop.products.map((one) => el("option", { value: one.id, selected: one.id === state.product }, `${one.title} ¥${one.price}`)));
  const none = el("div.order", radio(""), el("span.row", el("b.grow", t("no_order"))), el("span.sub", t("no_order_hint")), state.order === null && products);
  none.firstChild.setAttribute("aria-label", `${t("no_order")}，${t("no_order_hint")}`);
  const cards = state.orders().map((order) => {
    const [look, status] = orderLook(order);
    return el("label.order", radio(order.order_id),
      el("span.row", el("b.grow", order.order_id), el(`span.tag${look ? `.${look}` : ""}`, status)),
      el("span.sub", order.items[0].title, " · ", orderDetail(order)));
  });
  $("orders").replaceChildren(none, ...cards, ...(cards.length ? [] : [el("p.small.dim", t("no_orders"))]));
}

export function drawTroubles(state) {
  for (const box of document.querySelectorAll(".troubles input")) box.checked = state.world.troubles[box.name];
}
