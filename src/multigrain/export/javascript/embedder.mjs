// Embed texts with an exported model, in Node or in a page: needs @huggingface/transformers, and nothing else.
//
//     import * as transformers from "@huggingface/transformers";
//     import { Embedder } from "./embedder.mjs";
//
//     const embedder = await Embedder.open(transformers, "./");  // { dtype: "q8" } as a third for the quantised graph
//     const queries = await embedder.encodeQuery(["how do I rotate the logs?"]);
//     const documents = await embedder.encodeDocument(["Rotate logs with logrotate."]);
//
// `onnx/model.onnx` holds the encoder, its pooling and what follows. The settings below hold the prompts.

export const SETTINGS = {};

export class Embedder {
  constructor(library, tokenizer, model) {
    this.library = library;
    this.tokenizer = tokenizer;
    this.model = model;
  }

  // library: the package's exports. folder: a path (Node), or an id below `env.localModelPath` (pages).
  // options: what `from_pretrained` takes, e.g. { dtype: "q8" }.
  static async open(library, folder, options = {}) {
    const tokenizer = await library.AutoTokenizer.from_pretrained(folder, options);
    // The base class: it runs a graph as it is, whatever the architecture.
    const model = await library.PreTrainedModel.from_pretrained(folder, { dtype: "fp32", ...options });
    return new Embedder(library, tokenizer, model);
  }

  // Embed queries, with the model's query prompt.
  encodeQuery(texts, batchSize = 32) {
    return this.encode(texts, { prompt: SETTINGS.query_prompt, batchSize });
  }

  // Embed documents, with the model's document prompt.
  encodeDocument(texts, batchSize = 32) {
    return this.encode(texts, { prompt: SETTINGS.document_prompt, batchSize });
  }

  // Embed texts: an array of Float32Array, in the order of `texts`.
  async encode(texts, { prompt = SETTINGS.default_prompt, batchSize = 32 } = {}) {
    const vectors = [];
    for (let start = 0; start < texts.length; start += batchSize) {
      const batch = texts.slice(start, start + batchSize).map((text) => prompt + text);
      vectors.push(...(await this.forward(batch, prompt)));
    }
    return vectors;
  }

  async forward(texts, prompt) {
    const rows = texts.map((text) => this.cut(this.tokens(text)));
    const inputs = this.padded(rows);
    if (!SETTINGS.pools_prompt) {
      const length = BigInt(this.promptLength(prompt));
      inputs.prompt_length = new this.library.Tensor("int64", new BigInt64Array([length]), []);
    }
    const { sentence_embedding } = await this.model(inputs);
    const width = sentence_embedding.dims[1];
    return rows.map((_, row) => sentence_embedding.data.slice(row * width, (row + 1) * width));
  }

  tokens(text) {
    return this.tokenizer(text, { padding: false, truncation: false, return_tensor: false }).input_ids;
  }

  // The package's own truncation loses the end token; here the text is cut in front of it.
  cut(ids) {
    const { max_tokens, end_tokens } = SETTINGS;
    if (max_tokens === null || ids.length <= max_tokens) return ids;
    return [...ids.slice(0, max_tokens - end_tokens), ...ids.slice(ids.length - end_tokens)];
  }

  padded(rows) {
    const longest = Math.max(...rows.map((ids) => ids.length));
    const ids = new BigInt64Array(rows.length * longest).fill(BigInt(SETTINGS.pad_id));
    const mask = new BigInt64Array(rows.length * longest);
    for (const [row, own] of rows.entries()) {
      const start = row * longest + (SETTINGS.padding_side === "left" ? longest - own.length : 0);
      ids.set(own.map(BigInt), start);
      mask.fill(1n, start, start + own.length);
    }
    const tensor = (values) => new this.library.Tensor("int64", values, [rows.length, longest]);
    return { input_ids: tensor(ids), attention_mask: tensor(mask) };
  }

  // Tokens of the prompt, start token included, end token not.
  promptLength(prompt) {
    if (!prompt) return 0;
    const ids = this.tokens(prompt);
    return ids.length - (SETTINGS.special_ids.includes(ids.at(-1)) ? 1 : 0);
  }
}
