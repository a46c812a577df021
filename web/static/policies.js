// The policies by the names that people know them by.

import { words } from "./format.js";

export const PROVIDERS = { aws: "Amazon S3", gcp: "Google Cloud", azure: "Azure" };
const CLASSES = { standard_ia: "Standard-IA", intelligent_tiering: "Intelligent-Tiering", onezone_ia: "One Zone-IA" };

/** Return a storage class as its provider writes it. */
export const className = (name) => CLASSES[name] ?? words(name);

const TITLES = {
  all_hot: "Everything stays hot", age_30_90: "By age, 30 and 90 days", last_access_30_90: "By last access, 30 and 90 days",
  last_access_30_90_promote: "By last access, and back at a read", azure_last_access: "Azure's last-access rule",
  intelligent_tiering: "Intelligent-Tiering", smart_tier: "Smart tier", "autoclass:nearline": "Autoclass to nearline", "autoclass:archive": "Autoclass to archive",
  optimum: "Optimum", fabric: "This fabric", fabric_gated: "This fabric, gated",
};
const FAMILIES = { static: "All in", break_even_ttl: "Break-even wait to", adaptive_ttl: "Adaptive wait to" };
const SAYS = {
  optimum: "knows every read to come; plain classes only", fabric: "decides on the past alone", fabric_gated: "the same under the score and the gates",
};

export function policyTitle(name) {
  const [family, of] = name.split(":");
  return TITLES[name] ?? (FAMILIES[family] ? `${FAMILIES[family]} ${className(of ?? "")}` : words(name));
}

export const policySays = (name) => SAYS[name] ?? name;
