// Without this file the page can be read; with it, the page refreshes itself and offers actions.
import { offerActions } from "./actions.js";
import { prepare } from "./morph.js";
import { keepFresh } from "./refresh.js";

prepare(document);
const refresh = keepFresh();
offerActions(refresh);
