"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const parts = [...document.querySelectorAll(".part")];
  const memory = {
    get: (key) => { try { return sessionStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* a page without storage */ } },
  };

  // Colors: figures name them, the style sheet knows them.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const resolve = (value, key = "") => {
    if (Array.isArray(value)) return value.map((each) => resolve(each, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, resolve(each, name)]));
    }
    const isColor = /color(scale|s|way)?$/i.test(key);
    return isColor && typeof value === "string" && value.startsWith("@") ? color(value.slice(1)) : value;
  };

  // Figures
  const shared = () => {
    const axis = {
      gridcolor: color("grid"), linecolor: color("line"), zerolinecolor: color("line"), tickcolor: color("line"),
      automargin: true, title: { standoff: 10, font: { size: 12.5, color: color("soft") } },
    };
    return {
      layout: {
        paper_bgcolor: color("panel"), plot_bgcolor: "rgba(0,0,0,0)", autosize: true, hovermode: "closest",
        font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: color("ink") },
        colorway: [1, 2, 3, 4, 5, 6, 7, 8].map((place) => color(`c${place}`)),
        hoverlabel: { bgcolor: color("panel"), bordercolor: color("muted"), font: { color: color("ink") }, align: "left" },
        legend: { orientation: "h", x: 0, y: 1, xanchor: "left", yanchor: "bottom", font: { color: color("soft") } },
        xaxis: axis, yaxis: axis,
      },
    };
  };
  const narrow = () => innerWidth < 640;
  const settings = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: "reset" };
  const touches = matchMedia("(pointer: coarse)").matches;
  const drawn = new Set();
  const draw = (canvas) => {
    const spec = specs[canvas.id];
    const menu = document.querySelector(`select[data-figure="${canvas.id}"]`);
    let data = resolve(spec.data);
    if (menu) data = data.map((trace) => ({ ...trace, visible: trace.meta === undefined || trace.meta === menu.value }));
    const margin = { l: 54, r: 14, t: 10, b: 44, ...(spec.layout.margin || {}) };
    const layout = { margin, template: shared(), ...resolve(spec.layout), ...(touches || narrow() ? { dragmode: false } : {}) };
    layout.margin = margin;
    const named = data.filter((trace) => trace.showlegend !== false && trace.visible !== false && trace.name).length;
    if (narrow() && named > 3) layout.height += 20 * (named - 2);
    canvas.style.height = `${layout.height}px`;
    drawn.add(canvas);
    return Plotly.react(canvas, data, layout, settings);
  };
  const canvases = [...document.querySelectorAll(".canvas")];
  const drawAll = () => canvases.filter((canvas) => !drawn.has(canvas)).forEach(draw);
  const redraw = () => drawn.forEach(draw);
  if (canvases.length) {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    }, { rootMargin: "400px" });
    canvases.forEach((canvas) => watcher.observe(canvas));
    document.querySelectorAll("select[data-figure]").forEach((menu) => {
      menu.addEventListener("change", () => draw(document.getElementById(menu.dataset.figure)));
    });
    addEventListener("beforeprint", () => { parts.forEach((part) => { part.hidden = false; }); drawAll(); });
    addEventListener("afterprint", () => show(tabs.findIndex((tab) => tab.ariaSelected === "true")));
  }

  // Light and dark
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const paint = () => { button.textContent = isDark() ? "Light" : "Dark"; redraw(); };
  if (memory.get("theme")) root.dataset.theme = memory.get("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    memory.set("theme", root.dataset.theme);
    paint();
  });
  dark.addEventListener("change", paint);

  // Tabs
  const show = (place, { focus = false, keep = false } = {}) => {
    tabs.forEach((tab, number) => {
      const chosen = number === place;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      parts[number].hidden = !chosen;
      if (chosen && focus) tab.focus();
    });
    if (keep) history.replaceState(null, "", `#${parts[place].id}`);
    for (const canvas of parts[place].querySelectorAll(".canvas")) if (drawn.has(canvas)) Plotly.Plots.resize(canvas);
  };
  const named = () => Math.max(parts.findIndex((part) => `#${part.id}` === location.hash), 0);
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => show(place, { keep: true }));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const moves = { ArrowRight: place === last ? 0 : place + 1, ArrowLeft: place === 0 ? last : place - 1, Home: 0, End: last };
      if (!(event.key in moves)) return;
      event.preventDefault();
      show(moves[event.key], { focus: true, keep: true });
    });
  });
  addEventListener("hashchange", () => show(named()));

  // Tables
  const value = (cell) => {
    if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    return cell.textContent.trim() === "–" ? null : cell.textContent.trim();
  };
  const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));
  document.querySelectorAll("table[data-first]").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const first = Number(table.dataset.first);
    let all = body.rows.length <= first + 5;
    const limit = () => [...body.rows].forEach((row, place) => { row.hidden = !all && place >= first; });
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const falls = head.ariaSort ? head.ariaSort === "ascending" : head.classList.contains("number");
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [value(row.cells[column]), row]);
      keyed.sort(([one], [other]) => {
        if (one === null || other === null) return (one === null) - (other === null);
        return falls ? compare(other, one) : compare(one, other);
      });
      body.append(...keyed.map(([, row]) => row));
      limit();
    }));
    if (!all) {
      const more = document.createElement("button");
      more.type = "button";
      more.className = "all";
      more.textContent = `Show all ${body.rows.length} rows`;
      more.addEventListener("click", () => { all = true; limit(); more.remove(); });
      table.closest(".scroll").after(more);
      limit();
    }
  });

  paint();
  show(named());

  // A page of a running search loads itself again
  if (RELOAD_SECONDS) {
    scrollTo(0, Number(memory.get("scroll") || 0));
    addEventListener("beforeunload", () => memory.set("scroll", String(scrollY)));
    const pause = document.createElement("button");
    pause.type = "button";
    pause.textContent = "Pause updates";
    let paused = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? "Resume updates" : "Pause updates";
    });
    document.querySelector(".bottom p").append(pause);
    setInterval(() => { if (!paused && !document.hidden) location.reload(); }, 1000 * RELOAD_SECONDS);
  }
})();
