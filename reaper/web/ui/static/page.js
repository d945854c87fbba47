// The page without this file can be read; with it, it stays fresh and can act.
import { offerActions } from "./actions.js";
import { prepare } from "./morph.js";
import { keepFresh } from "./refresh.js";

prepare(document);
const refresh = keepFresh();
offerActions(refresh);
