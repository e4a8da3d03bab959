// Asks Prometheus and shows what it says. No request leaves for anywhere else.

const site = await (await fetch("site.json")).json();
const range = document.getElementById("range");
const status = document.getElementById("state");
document.title = `${site.name}: ${site.domain}`;
document.getElementById("title").textContent = `${site.name}: ${site.domain}`;

const percent = value => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
const rate = value => `${value < 10 ? value.toFixed(2) : value.toFixed(0)}/s`;
const seconds = value => (value < 1 ? `${(1000 * value).toFixed(0)} ms` : `${value.toFixed(1)} s`);

const NOW = [
  ["requests", "Requests", "site:requests:rate", rate],
  ["logged", "Requests in the access logs", "site:requests_logged:rate", rate],
  ["errors", "Errors", "site:errors:ratio", percent],
  ["p50", "Half answered within", "site:latency_seconds:p50", seconds],
  ["p99", "99 of 100 answered within", "site:latency_seconds:p99", seconds],
];

const CHARTS = [
  { name: "Requests", unit: rate, series: [["balancers", "site:requests:rate"], ["access logs", "site:requests_logged:rate"]] },
  { name: "Answers", unit: rate, by: "code", query: "site:responses_by_class:rate" },
  { name: "Time to answer", unit: seconds, series: [["half", "site:latency_seconds:p50"], ["99 of 100", "site:latency_seconds:p99"]] },
  { name: "CPU", unit: percent, by: "server", query: "server:cpu:ratio" },
  { name: "Memory", unit: percent, by: "server", query: "server:memory:ratio" },
  { name: "Disk (/var)", unit: percent, by: "server", query: "server:disk:ratio" },
];

async function ask(path, parameters) {
  const answer = await fetch(`api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== "success") throw new Error(body.error ?? `status ${answer.status}`);
  return body.data;
}

/** Values of a query by a label. */
async function values(query, label) {
  const { result } = await ask("query", { query });
  return new Map(result.map(({ metric, value }) => [metric[label] ?? "", Number(value[1])]));
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** Replaces the rows of a table; a cell is text, or a text and how good it is. */
function rows(table, list, empty) {
  const made = list.map(cells => {
    const row = document.createElement("tr");
    cells.forEach((cell, column) => {
      const [text, kind] = Array.isArray(cell) ? cell : [cell];
      const made = element(column === 0 ? "th" : "td", text, kind);
      if (column === 0) made.scope = "row";
      row.append(made);
    });
    return row;
  });
  if (made.length === 0) {
    const cell = element("td", empty, "good");
    cell.colSpan = 9;
    const row = document.createElement("tr");
    row.append(cell);
    made.push(row);
  }
  document.querySelector(`#${table} tbody`).replaceChildren(...made);
}

const known = (value, yes, no) => (value === undefined ? "unknown" : value > 0 ? [yes, "good"] : [no, "bad"]);

async function now() {
  const all = await Promise.all(NOW.map(([, , query]) => ask("query", { query })));
  document.getElementById("now").replaceChildren(...NOW.map(([id, name, , unit], index) => {
    const sample = all[index].result[0];
    const value = sample === undefined ? NaN : Number(sample.value[1]);
    const tile = document.createElement("div");
    const text = element("dd", Number.isFinite(value) ? unit(value) : "none");
    text.id = id;
    tile.append(element("dt", name), text);
    return tile;
  }));
}

async function alerts() {
  const firing = (await ask("alerts", {})).alerts.filter(alert => alert.state === "firing");
  firing.sort((one, other) => one.activeAt.localeCompare(other.activeAt));
  rows("alerts", firing.map(({ labels, annotations, activeAt }) => [
    [labels.severity, labels.severity === "critical" ? "bad" : "warn"],
    labels.alertname,
    annotations.summary,
    new Date(activeAt).toLocaleTimeString(),
  ]), "none");
  return firing.length;
}

async function appliances() {
  const [there, active, peer, sync] = await Promise.all([
    values('probe_success{job="appliance"}', "appliance"),
    values("appliance:active", "appliance"),
    values("ravelin_appliance_peer", "appliance"),
    values("ravelin_appliance_in_sync", "appliance"),
  ]);
  rows("appliances", site.appliances.map(name => {
    const gone = there.get(name) === 0;
    const state = active.get(name) === undefined ? "unknown" : active.get(name) > 0 ? ["Active", "good"] : "Backup";
    return [
      name,
      known(there.get(name), "yes", "no answer"),
      gone ? ["gone", "bad"] : state,
      gone ? "unknown" : known(peer.get(name), "yes", "no"),
      gone ? "unknown" : active.get(name) > 0 ? "tells them" : known(sync.get(name), "yes", "no"),
    ];
  }), "none");
}

async function servers() {
  const [there, cpu, memory, disk, busy] = await Promise.all(
    ['up{job="node"}', "server:cpu:ratio", "server:memory:ratio", "server:disk:ratio", "server:disk_io:ratio"]
      .map(query => values(query, "server")));
  const share = (map, name) => {
    const value = map.get(name);
    return value === undefined ? "unknown" : [percent(value), value > 0.9 ? "bad" : ""];
  };
  rows("servers", site.servers.map(({ name, role }) => [
    name, role, known(there.get(name), "yes", "no answer"),
    share(cpu, name), share(memory, name), share(disk, name), share(busy, name),
  ]), "none");
  return site.servers.filter(({ name }) => there.get(name) === 0).length;
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Makes an empty chart. */
function chart({ name, unit }) {
  const figure = document.createElement("figure");
  const plot = element("div", "", "plot");
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  plot.append(canvas);
  figure.append(element("figcaption", name), plot);
  document.getElementById("charts").append(figure);
  const clock = value => new Date(value).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return new Chart(canvas, {
    type: "line",
    data: { datasets: [] },
    options: {
      animation: false,
      maintainAspectRatio: false,
      parsing: false,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      elements: { point: { radius: 0 }, line: { borderWidth: 1.5 } },
      scales: {
        x: { type: "linear", ticks: { maxTicksLimit: 7, callback: clock } },
        y: { beginAtZero: true, ticks: { maxTicksLimit: 5, callback: unit } },
      },
      plugins: {
        legend: { labels: { boxWidth: 12 } },
        tooltip: { callbacks: { title: items => clock(items[0].parsed.x), label: item => `${item.dataset.label}: ${unit(item.parsed.y)}` } },
      },
    },
  });
}

/** The lines of a chart: names, and points in milliseconds. */
async function lines({ series, query, by }) {
  const end = Date.now() / 1000;
  const span = Number(range.value);
  const limits = { start: end - span, end, step: Math.max(site.interval, span / 240) };
  const read = async (query, name) => {
    const { result } = await ask("query_range", { query, ...limits });
    return result.map(({ metric, values }) => ({
      label: name ?? metric[by] ?? "",
      data: values.map(([time, value]) => ({ x: 1000 * time, y: Number(value) })).filter(({ y }) => Number.isFinite(y)),
    }));
  };
  const found = series ? (await Promise.all(series.map(([name, query]) => read(query, name)))).flat() : await read(query);
  found.sort((one, other) => one.label.localeCompare(other.label));
  return { found, min: 1000 * limits.start, max: 1000 * end };
}

async function draw(one) {
  const { found, min, max } = await lines(one);
  const drawn = one.chart;
  drawn.data.datasets = found.map((line, index) => ({ ...line, borderColor: colour(`--c${index % 8}`), backgroundColor: colour(`--c${index % 8}`), borderDash: index < 8 ? [] : [5, 3] }));
  const { scales, plugins } = drawn.options;
  Object.assign(scales.x, { min, max });
  for (const scale of [scales.x, scales.y]) {
    scale.ticks.color = colour("--soft");
    scale.grid = { color: colour("--line") };
  }
  plugins.legend.labels.color = colour("--text");
  drawn.update();
  const last = found.map(({ label, data }) => `${label} ${data.length ? one.unit(data[data.length - 1].y) : "none"}`);
  drawn.canvas.setAttribute("aria-label", `${one.name}: ${last.join(", ")}`);
}

async function refresh() {
  try {
    const [, firing, , gone] = await Promise.all([now(), alerts(), appliances(), servers(), ...CHARTS.map(draw)]);
    const time = new Date().toLocaleTimeString();
    status.textContent = firing === 0 && gone === 0 ? `all is well (${time})` : `${firing} alerts, ${gone} servers without an answer (${time})`;
    status.className = firing === 0 && gone === 0 ? "good" : "bad";
  } catch (error) {
    status.textContent = `Prometheus cannot be asked: ${error.message}`;
    status.className = "bad";
  }
}

async function forever() {
  for (const one of CHARTS) one.chart = chart(one);
  for (;;) {
    await refresh();
    document.documentElement.dataset.refreshed = Date.now();
    await new Promise(done => setTimeout(done, 1000 * Math.max(2, site.interval)));
  }
}

range.addEventListener("change", refresh);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
forever();
