/** The plugins of the JupyterLab and Notebook 7 extension, one a file. */

import { rendererPlugin } from "./renderer";

export default [rendererPlugin];
