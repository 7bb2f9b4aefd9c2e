// The parent of a forked process. It may end at any moment. A message to it is then lost, and nothing is thrown:
// without a callback Node would throw EPIPE or ERR_IPC_CHANNEL_CLOSED.

export function tellParent(message: string | object): void {
  if (process.connected) process.send?.(message, undefined, {}, () => {});
}

export function leaveParent(): void {
  if (process.connected) process.disconnect();
}
