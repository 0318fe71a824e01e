// Holds custom resources, as JSON on standard input, against the schemas that their operators ship.
import { readFileSync } from "node:fs";

const packages = {
  "cert-manager.io/v1": "@kubernetes-models/cert-manager",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator",
};
let looked = 0;
for (const object of JSON.parse(readFileSync(0))) {
  const { apiVersion, kind, metadata } = object;
  const known = (await import(`${packages[apiVersion]}/${apiVersion}/${kind}`))[kind];
  try {
    new known(object).validate();
    looked += 1;
  } catch (error) {
    console.error(`${kind} ${metadata.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
console.log(looked);
