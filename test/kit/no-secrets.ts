// The sealed bucket of a pool that has no secrets.
export const noSecrets = {
  put: async (): Promise<void> => {},
  putAs: async (): Promise<void> => {},
  claim: async (_id: string, by: string): Promise<string> => by,
  look: async (): Promise<void> => {},
  get: (): undefined => undefined,
  prune: async (): Promise<void> => {},
};
