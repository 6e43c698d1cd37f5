/** The fields of what came from a file, storage or the network; none of what is no object. */
export const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? { ...value } : {};
