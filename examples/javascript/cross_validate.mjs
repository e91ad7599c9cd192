// A data set, a submission on three folds of it, their scores and predictions: node cross_validate.mjs

import { decoded, encoded } from "./arrays.mjs";
import { Datarun } from "./datarun.mjs";

// What is wrong is said in a sentence, without a stack of calls.
process.on("uncaughtException", (error) => {
  console.error(`Error: ${error.message}`);
  process.exit(1);
});

const SPECIES = ["setosa", "virginica"];
const rows = Array.from({ length: 40 }, (_, i) => [1 + 3 * (i % 2) + i / 40, i / 100, SPECIES[i % 2]]);
const csv = ["length,width,species", ...rows].join("\n") + "\n";

const classifier = `
from sklearn.linear_model import LogisticRegression


class Classifier(LogisticRegression):
    pass
`;

const datarun = new Datarun();

// News is asked for before anything is published, so that none is missed.
const news = new Map(); // "data.<name>" or fold id -> result
let wake = () => {};
const stop = await datarun.follow(["data.javascript", "fold.javascript.*"], (result, key) => {
  if (result) news.set(result.submission_fold_id ?? key, result);
  wake(result !== null);
});

// News may be lost with a connection: then, and after ten seconds without any, the collector is asked.
async function until(found, ask) {
  while (!found()) {
    const told = await new Promise((resolve) => {
      const silence = setTimeout(() => resolve(false), 10_000);
      wake = (told) => {
        clearTimeout(silence);
        resolve(told);
      };
    });
    if (!told) await ask();
  }
}

// 1. A data set: the file is text, as it stands.
const dataId = await datarun.publish(
  "data",
  {
    name: "javascript",
    target_column: "species",
    workflow_elements: "classifier",
    files: { "flowers.csv": csv },
    split: { held_out_test: 0.2, random_state: 42 },
  },
  { type: "datarun.data.v1" },
);
await until(
  () => news.has("data.javascript"),
  async () => {
    const { datasets } = await datarun.ask("datarun.datasets-request.v1", { message_id: dataId });
    for (const dataset of datasets) if (dataset.state !== "TODO") news.set("data.javascript", dataset);
  },
);
const dataset = news.get("data.javascript");
if (dataset.state !== "READY") throw new Error(dataset.verdict.message);
console.log(`data set ${dataset.name}@${dataset.version}: ${dataset.n_train} rows to train on`);

// 2. Unused ids, and which rows each fold is validated on; it trains on all others.
const version = `${dataset.name}@${dataset.version}`;
const cut = await datarun.ask("datarun.cross-validate-request.v1", { dataset: version, cv: 3 });

// 3. The folds. Rows are plain lists or packed arrays, as one likes; the last fold is urgent.
for (const [index, fold] of cut.folds.entries()) {
  const test_is = decoded(fold.test_is);
  const train_is = [...Array(cut.n_train).keys()].filter((row) => !test_is.includes(row));
  const urgent = index === cut.folds.length - 1;
  await datarun.publish(
    "folds.default",
    {
      submission_fold_id: fold.submission_fold_id,
      submission_id: cut.submission_id,
      submission_name: "from JavaScript",
      dataset: cut.dataset,
      files: { "classifier.py": classifier },
      train_is: urgent ? encoded(train_is) : train_is,
      test_is,
      priority: urgent ? "H" : "L",
    },
    { type: "datarun.fold.v1", priority: urgent ? 5 : 1 },
  );
}

// 4. Results, as they come.
const ids = cut.folds.map((fold) => fold.submission_fold_id);
const resultsOf = async (with_predictions) => {
  const found = [];
  let cursor = 0;
  do {
    const page = await datarun.ask("datarun.results-request.v1", {
      submission_fold_ids: ids,
      with_predictions,
      cursor,
    });
    found.push(...page.results);
    cursor = page.cursor;
  } while (cursor !== null);
  return found;
};
await until(
  () => ids.every((id) => news.has(id)),
  async () => {
    for (const result of await resultsOf(false)) news.set(result.submission_fold_id, result);
  },
);

// 5. Predictions are asked for; then the results are acknowledged: they are no longer new.
for (const { submission_fold_id, state, test_scores, test_predictions, verdict } of await resultsOf(true)) {
  console.log(
    `fold ${submission_fold_id}: ${state}`,
    verdict ? verdict.message : `accuracy ${test_scores.accuracy}, first prediction`,
    verdict ? "" : decoded(test_predictions).slice(0, test_predictions.shape[1]),
  );
}
const { count } = await datarun.ask(
  "datarun.acknowledge.v1",
  { submission_fold_ids: ids },
  "acknowledge",
);
console.log(`${count} acknowledged`);
await stop();
await datarun.close();
