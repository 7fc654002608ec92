// Draws the charts of a page from the data beside them, in the colours of the style sheet, and answers its forms.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const SERIES = 12;
  const seriesColour = (index) => colour(`series-${index % SERIES}`);
  const drawn = new Map(); // charts by their figure

  const formatted = (value) => {
    const size = Math.abs(value);
    if (size < 1e-12) return "0";
    if (size < 0.001) return value.toExponential(1);
    return value.toLocaleString("en", size < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 });
  };

  // On a logarithmic axis, 1, 2 and 5 of each power have a label.
  const tickText = (scale) => (value, index, ticks) => {
    if (scale !== "logarithmic") {
      const last = index > 1 && index === ticks.length - 1;
      const crowded = last && value - ticks[index - 1].value < 0.7 * (ticks[1].value - ticks[0].value);
      return crowded ? "" : formatted(value);
    }
    const significand = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
    return [1, 2, 5].some((digit) => Math.abs(significand - digit) < 1e-6) ? formatted(value) : "";
  };

  // A long name under an axis is written in lines.
  function words(value) {
    const name = this.getLabelForValue(value);
    if (!this.isHorizontal() || name.length <= 8) return name;
    return this.width / this.ticks.length < 70 ? name.split(" ")[0] : name.split(" ");
  }

  const limitLines = (limits) => ({
    id: "limits",
    afterDatasetsDraw(chart) {
      const { ctx, chartArea: area, scales } = chart;
      for (const limit of limits) {
        const at = scales[limit.axis].getPixelForValue(limit.value);
        const upright = limit.axis === "x";
        if (upright ? at < area.left || at > area.right : at < area.top || at > area.bottom) continue;
        ctx.save();
        ctx.strokeStyle = ctx.fillStyle = colour("bad");
        ctx.setLineDash([6, 4]);
        ctx.beginPath();
        ctx.moveTo(upright ? at : area.left, upright ? area.top : at);
        ctx.lineTo(upright ? at : area.right, upright ? area.bottom : at);
        ctx.stroke();
        ctx.font = "11px system-ui, sans-serif";
        ctx.textAlign = upright ? "left" : "right";
        ctx.fillText(limit.label, upright ? at + 4 : area.right - 4, upright ? area.top + 12 : at - 5);
        ctx.restore();
      }
    },
  });

  const looks = {
    line: { type: "line", fill: false },
    steps: { type: "line", fill: true, stepped: "after" },
    bars: { type: "bar" },
    stack: { type: "bar", stacked: true },
    spans: { type: "bar", lying: true, stacked: true },
  };

  function dataset(series, look) {
    const own = seriesColour(series.colour);
    const marks = series.points.map((point) => point.mark);
    const common = { label: series.name, data: series.points, backgroundColor: own, borderColor: own, borderWidth: 0 };
    if (look.type === "bar") {
      return { ...common, minBarLength: look.lying ? 2 : 0, borderSkipped: false, grouped: !look.lying,
        categoryPercentage: look.lying ? 0.9 : 0.8, barPercentage: 0.9 };
    }
    return {
      ...common,
      borderWidth: series.band ? 9 : 2,
      borderColor: series.band ? `${own}38` : own,
      order: series.band ? 1 : 0, // beneath the others
      backgroundColor: look.fill ? `${own}40` : own,
      fill: look.fill ? "origin" : false,
      stepped: look.stepped || false,
      pointStyle: marks.map((mark) => (mark === "chosen" ? "star" : "circle")),
      pointRadius: marks.map((mark) => (mark === "chosen" ? 9 : mark === "doubtful" ? 6 : series.band || look.stepped ? 0 : 3.5)),
      pointBorderWidth: marks.map((mark) => (mark ? 2.5 : 1)),
      pointBorderColor: marks.map((mark) => (mark === "doubtful" ? colour("bad") : own)),
      pointBackgroundColor: marks.map((mark) => (mark === "doubtful" ? colour("card") : own)),
      pointHoverRadius: 7,
      pointHitRadius: 8,
    };
  }

  // Bars on a logarithmic axis begin below the lowest of them.
  const heights = (told) => told.series.flatMap((series) => series.points.map((point) => point.y));
  const lowest = (told) => Math.min(...heights(told).filter((y) => y > 0));

  function axis(told, name, look) {
    const value = look.lying ? "x" : "y";
    const named = told.names.length > 0 && name !== value;
    const scale = named ? "category" : told.logarithmic.includes(name) ? "logarithmic" : "linear";
    return {
      type: scale,
      labels: named ? told.names : undefined,
      title: { display: true, text: told[`${name}_title`], color: colour("faint") },
      grid: { color: colour("rule"), display: name === value || scale === "logarithmic" },
      border: { color: colour("rule") },
      stacked: Boolean(look.stacked) && (look.lying ? name === "y" : true),
      beginAtZero: scale === "linear",
      min: scale === "logarithmic" && look.type === "bar" ? lowest(told) / 2 : undefined,
      max: name === "x" && told.largest_x ? told.largest_x : undefined,
      bounds: name === "x" ? "data" : "ticks",
      afterFit: told.largest_x && name === "y" ? (fitted) => { fitted.width = Math.min(150, Math.max(128, fitted.chart.width * 0.2)); } : undefined,
      grace: scale === "linear" && name === "y" ? "6%" : 0,
      ticks: { color: colour("faint"), maxRotation: 0, autoSkip: !named, includeBounds: false, callback: named ? words : tickText(scale) },
    };
  }

  // The library would take the look of a series' first point, which may have a mark.
  const entries = (chart, told) => told.series.map((series, index) => ({
    text: series.name, datasetIndex: index, hidden: !chart.isDatasetVisible(index), fontColor: colour("text"),
    fillStyle: seriesColour(series.colour), strokeStyle: seriesColour(series.colour), lineWidth: 0, pointStyle: "circle",
  }));

  function configuration(told) {
    const look = looks[told.kind];
    return {
      type: look.type,
      data: { datasets: told.series.map((series) => dataset(series, look)) },
      options: {
        animation: false,
        maintainAspectRatio: false,
        indexAxis: look.lying ? "y" : "x",
        interaction: { mode: look.type === "line" ? "nearest" : "point", intersect: look.type !== "line" },
        scales: { x: axis(told, "x", look), y: axis(told, "y", look) },
        plugins: {
          legend: {
            display: told.legend,
            position: "bottom",
            labels: { color: colour("text"), generateLabels: (chart) => entries(chart, told), boxWidth: 11, boxHeight: look.type === "line" && !look.fill ? 7 : 11, usePointStyle: look.type === "line" && !look.fill },
          },
          tooltip: {
            backgroundColor: colour("tip"), titleColor: colour("tip-text"), bodyColor: colour("tip-text"),
            callbacks: {
              title: (found) => (found.length ? found[0].dataset.label : ""),
              label: (item) => [...item.raw.text],
            },
          },
        },
      },
      plugins: [limitLines(told.limits)],
    };
  }

  function draw(figure) {
    const told = JSON.parse(document.getElementById(`${figure.id}-data`).textContent);
    const wish = figure.querySelector("input.logarithmic");
    if (wish) told.logarithmic = told.logarithmic.replace("y", "") + (wish.checked ? "y" : "");
    drawn.get(figure)?.destroy();
    const canvas = figure.querySelector("canvas");
    if (told.kind === "spans") figure.querySelector(".plot").style.height = `${110 + 30 * told.names.length}px`;
    drawn.set(figure, new Chart(canvas, configuration(told)));
  }

  function offerLogarithm(figure) {
    const told = JSON.parse(document.getElementById(`${figure.id}-data`).textContent);
    if (!["line", "bars"].includes(told.kind) || heights(told).some((y) => !(y > 0))) return;
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", className: "logarithmic" });
    box.checked = told.logarithmic.includes("y");
    box.addEventListener("change", () => draw(figure));
    label.append(box, " log");
    label.title = "logarithmic axis";
    figure.querySelector("figcaption").append(label);
  }

  // The number of servers for a load: the same arithmetic as in the text that stands there without a script.
  function answer(form) {
    const told = JSON.parse(document.getElementById("sizing-data").textContent);
    const value = (name) => Number(form.elements[name].value);
    const [rows, budget, wanted, load] = ["rows", "budget", "wanted", "load"].map(value);
    const out = form.querySelector("tbody");
    out.replaceChildren();
    const best = new Map();
    for (const item of told) {
      if (item.rows !== rows || item.budget_ms > budget || !(item.inferences > 0)) continue;
      const known = best.get(item.precision);
      if (!known || known.inferences < item.inferences) best.set(item.precision, item);
    }
    for (const item of [...best.values()].sort((a, b) => b.inferences - a.inferences)) {
      const line = out.insertRow();
      const servers = wanted > 0 && load > 0 ? Math.max(1, Math.ceil(wanted / (item.inferences * (load / 100)))) : NaN;
      line.insertCell().textContent = item.title;
      for (const number of [servers, item.inferences / rows, item.inferences]) {
        const cell = line.insertCell();
        cell.className = "number";
        cell.textContent = Number.isNaN(number) ? "-" : number.toLocaleString("en", { maximumFractionDigits: 0 });
      }
    }
    if (!best.size) {
      const cell = out.insertRow().insertCell();
      cell.colSpan = 4;
      cell.textContent = "Nothing that was measured answers this within the budget.";
    }
  }

  const figures = [...document.querySelectorAll("figure.chart")];
  const drawAll = () => figures.forEach(draw);
  Chart.defaults.font.family = "system-ui, sans-serif";
  figures.forEach(offerLogarithm);
  drawAll();
  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { root.dataset.print = "yes"; drawAll(); });
  window.addEventListener("afterprint", () => { delete root.dataset.print; drawAll(); });
  for (const form of document.querySelectorAll("form.sizing")) {
    form.addEventListener("input", () => answer(form));
    form.addEventListener("submit", (event) => event.preventDefault());
    answer(form);
  }
})();
