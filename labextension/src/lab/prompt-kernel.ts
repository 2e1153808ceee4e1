/**
 * A kernel connection that sends at once.
 *
 * After a page is reloaded, JupyterLab's own connection holds back every message, those for the
 * control channel too, until the kernel has answered on its shell channel or three seconds have
 * passed; other extensions' requests are in that queue before ours. While it is so young, ours go
 * over a second connection, shared by the views of a notebook and closed again soon.
 */

import type { Kernel } from "@jupyterlab/services";

const YOUNG_SECONDS = 5;

interface Second {
  connection: Kernel.IKernelConnection;
  over: Promise<void>;
}

const seconds = new WeakMap<Kernel.IKernelConnection, Second>();

/** The connection to use now, and when to ask again for another one. */
export function promptKernel(kernel: Kernel.IKernelConnection): {
  connection: Kernel.IKernelConnection;
  over: Promise<void> | null;
} {
  let second = seconds.get(kernel);
  if (!second && kernel.connectionStatus === "connecting") {
    const connection = kernel.clone({ handleComms: false });
    const over = Promise.race([
      kernel.info.then(() => {}),
      new Promise<void>((resolve) => setTimeout(resolve, YOUNG_SECONDS * 1000)),
    ]).then(() => {
      seconds.delete(kernel);
      setTimeout(() => connection.dispose(), 1000); // answers under way still arrive
    });
    second = { connection, over };
    seconds.set(kernel, second);
  }
  return second ?? { connection: kernel, over: null };
}
