"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  function make(tag, className, text, attributes = {}) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    return element;
  }
  function button(className, text, action) {
    const element = make("button", className, text, { type: "button" });
    element.addEventListener("click", action);
    return element;
  }

  // Listening. One system plays at a time; another one of the same utterance goes on at the same position.
  const clips = JSON.parse(byId("data").textContent);
  if (!clips.length) return;
  const audios = clips.map((clip) => clip.systems.map((system) => {
    const audio = make("audio", "", undefined, { preload: "metadata", src: system.source });
    byId("listening").append(audio);
    return audio;
  }));
  let current = null; // {clip, system}
  const playing = () => current && audios[current.clip][current.system];

  function mark() {
    const audio = playing();
    document.querySelectorAll(".play").forEach((play) => {
      const on = current && +play.dataset.clip === current.clip && +play.dataset.system === current.system;
      play.setAttribute("aria-pressed", on ? "true" : "false");
      play.classList.toggle("paused", Boolean(on && audio.paused));
    });
  }
  function choose(clip, system, position) {
    const before = playing();
    const same = before && current.clip === clip;
    if (same && current.system === system && position === undefined) {
      if (before.paused) before.play(); else before.pause();
      return;
    }
    let start = position;
    if (start === undefined) start = same && !before.ended ? before.currentTime : 0;
    if (before) before.pause();
    current = { clip, system };
    playing().currentTime = start;
    playing().play();
    mark();
  }
  function stop() {
    if (playing()) playing().pause();
    current = null;
    mark();
  }
  function playButton(clip, system, text) {
    const play = button("play", text, () => choose(clip, system));
    play.dataset.clip = clip;
    play.dataset.system = system;
    return play;
  }
  audios.forEach((row, clip) => row.forEach((audio) => {
    ["play", "pause", "ended"].forEach((name) => audio.addEventListener(name, mark));
    audio.addEventListener("timeupdate", () => {
      if (audio !== playing()) return;
      const share = audio.currentTime / (audio.duration || 1);
      document.querySelectorAll("progress, .needle").forEach((shown) => {
        if (+shown.dataset.clip !== clip) return;
        if (shown.tagName === "PROGRESS") shown.value = share;
        else shown.style.left = `calc(${100 * share}% - 1px)`;
      });
    });
  }));

  clips.forEach((clip, number) => {
    const box = make("div", "clip");
    box.append(make("h3", "", clip.name), make("p", "", clip.why));
    const row = make("div", "systems");
    clip.systems.forEach((system, place) => {
      const cell = make("div", "system");
      const picture = make("div", "picture");
      picture.append(make("img", "", undefined, { src: system.picture, alt: "spectrogram of " + system.label, loading: "lazy" }));
      const needle = make("div", "needle");
      needle.dataset.clip = number;
      picture.append(needle);
      picture.addEventListener("click", (event) => {
        const area = picture.getBoundingClientRect();
        const share = (event.clientX - area.left) / area.width;
        choose(number, place, share * (audios[number][place].duration || 0));
      });
      cell.append(playButton(number, place, system.label), picture);
      row.append(cell);
    });
    box.append(row);
    byId("clips").append(box);
  });

  // Blind A/B: pairs of systems in random order and on random sides; every choice is kept.
  const store = "codecbench-choices-" + document.title;
  const keep = {
    read() {
      try { return JSON.parse(localStorage.getItem(store) || "[]"); } catch { return []; } // a file or frame without storage
    },
    write(value) {
      try { localStorage.setItem(store, JSON.stringify(value)); } catch { /* kept in memory and exported */ }
    },
  };
  let choices = keep.read();
  let trials = [];
  let trial = null;
  function shuffled(list) {
    for (let last = list.length - 1; last > 0; last--) {
      const other = Math.floor(Math.random() * (last + 1));
      [list[last], list[other]] = [list[other], list[last]];
    }
    return list;
  }
  function pairs() {
    const all = [];
    clips.forEach((clip, number) => {
      const rivals = [...clip.systems.keys()].filter((place) => clip.systems[place].rival);
      rivals.forEach((a, turn) => rivals.slice(turn + 1).forEach((b) => {
        if (clip.systems[a].rival !== clip.systems[b].rival) return;
        const names = [clip.systems[a].label, clip.systems[b].label].sort().join("\n");
        const done = choices.some((one) => one.utterance === clip.name && [one.a, one.b].sort().join("\n") === names);
        if (!done) all.push(Math.random() < 0.5 ? { clip: number, a, b } : { clip: number, a: b, b: a });
      }));
    });
    return shuffled(all);
  }
  function decide(chosen) {
    const { systems, name } = clips[trial.clip];
    const label = chosen === null ? null : systems[trial[chosen]].label;
    choices = [...choices, { utterance: name, a: systems[trial.a].label, b: systems[trial.b].label, chosen: label }];
    keep.write(choices);
    next();
  }
  function next() {
    stop();
    trial = trials.pop() || null;
    const place = byId("trial");
    place.replaceChildren();
    byId("count").textContent = `${choices.length} chosen, ${trials.length + (trial ? 1 : 0)} to go`;
    if (!trial) {
      place.append(make("p", "", "Every pair has been heard. Thank you."));
      return;
    }
    const hear = make("div", "row");
    hear.append(playButton(trial.clip, 0, "reference"), playButton(trial.clip, trial.a, "A"), playButton(trial.clip, trial.b, "B"));
    const bar = make("progress", "", undefined, { max: 1, value: 0, "aria-label": "position" });
    bar.dataset.clip = trial.clip;
    const say = make("div", "row");
    say.append(
      button("choice", "A is nearer the reference", () => decide("a")),
      button("choice", "B is nearer the reference", () => decide("b")),
      button("choice", "can't tell", () => decide(null)),
      button("", "skip", next),
    );
    place.append(hear, bar, say);
  }
  function results() {
    const tally = new Map();
    const of = (label) => tally.get(label) || tally.set(label, { heard: 0, won: 0, even: 0 }).get(label);
    choices.forEach(({ a, b, chosen }) => [a, b].forEach((label) => {
      of(label).heard += 1;
      of(label).won += chosen === label;
      of(label).even += chosen === null;
    }));
    const table = make("table");
    const head = make("tr");
    ["system", "chosen", "can't tell", "of"].forEach((name) => head.append(make("th", "", name)));
    table.append(head);
    [...tally].sort((x, y) => y[1].won / y[1].heard - x[1].won / x[1].heard).forEach(([label, count]) => {
      const row = make("tr");
      row.append(make("th", "", label), make("td", "", count.won), make("td", "", count.even), make("td", "", count.heard));
      table.append(row);
    });
    byId("results").replaceChildren(tally.size ? table : make("p", "", "Nothing was chosen yet."));
  }
  const blind = byId("blind");
  blind.addEventListener("click", () => {
    const start = blind.getAttribute("aria-pressed") !== "true";
    blind.setAttribute("aria-pressed", String(start));
    blind.textContent = start ? "back to names" : "blind A/B";
    byId("clips").hidden = start;
    byId("ab").hidden = !start;
    byId("results").replaceChildren();
    stop();
    trials = start ? pairs() : [];
    if (start) next(); else byId("trial").replaceChildren();
  });
  byId("reveal").addEventListener("click", results);
  byId("forget").addEventListener("click", () => {
    choices = [];
    keep.write(choices);
    byId("results").replaceChildren();
    trials = pairs();
    next();
  });
  byId("export").addEventListener("click", () => {
    const text = JSON.stringify({ study: document.title, choices }, null, 1);
    const link = make("a", "", undefined, { download: "choices.json" });
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const named = ["r", "a", "b"].indexOf(key);
    if (key === " " && playing() && !event.target.closest("button, a, summary")) {
      event.preventDefault();
      if (playing().paused) playing().play(); else playing().pause();
    } else if (trial && named >= 0) {
      choose(trial.clip, [0, trial.a, trial.b][named]);
    } else if (!trial && key >= "1" && key <= "9") {
      const clip = current ? current.clip : 0;
      if (clips[clip].systems[key - 1]) choose(clip, key - 1);
    }
  });
})();
