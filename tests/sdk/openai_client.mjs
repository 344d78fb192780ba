// SPDX-License-Identifier: Apache-2.0
// The openai package of npm as its documentation uses it. Arguments: address, key, model.
import OpenAI from 'openai';
import { close, Features } from './features.mjs';

const QUESTION = [{ role: 'user', content: 'Hi' }]; // the answer is one sentence with the word STOP
const STOP = 'assist';

async function checkChat(client, model, checks) {
  const asked = { model, messages: QUESTION, temperature: 0, max_tokens: 24 };
  const answer = await client.chat.completions.create(asked);
  const text = answer.choices[0].message.content;
  checks.true('chat', text.includes(STOP));
  checks.equal('chat, finish', answer.choices[0].finish_reason, 'stop');
  checks.equal('usage', answer.usage.total_tokens,
    answer.usage.prompt_tokens + answer.usage.completion_tokens);
  let streamed = '';
  let last;
  const stream = await client.chat.completions.create(
    { ...asked, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta?.content ?? '';
    last = chunk;
  }
  checks.equal('stream', streamed, text);
  checks.equal('usage, of a stream', last.usage.total_tokens, answer.usage.total_tokens);
  const final = await client.chat.completions.stream(asked).finalContent();
  checks.equal('stream, helper', final, text);
  const stopped = await client.chat.completions.create({ ...asked, stop: STOP });
  checks.equal('stop', stopped.choices[0].message.content, text.split(STOP)[0]);
}

async function checkSampling(client, model, checks) {
  const asked = { model, messages: QUESTION, temperature: 1.3, max_tokens: 12, seed: 5 };
  const content = async (more) => (await client.chat.completions.create({ ...asked, ...more }))
    .choices.map((choice) => choice.message.content);
  const one = await content({});
  checks.equal('seed', await content({}), one);
  const many = await content({ n: 3 });
  checks.equal('n', many.length, 3);
  checks.equal('n, and seed', many[0], one[0]);
  const answer = await client.chat.completions.create(
    { ...asked, temperature: 0, max_tokens: 4, logprobs: true, top_logprobs: 3 });
  const entries = answer.choices[0].logprobs.content;
  checks.equal('logprobs', entries.map((entry) => entry.top_logprobs.length), [3, 3, 3, 3]);
}

async function checkOthers(client, model, checks) {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  checks.true('models', names.includes(model));
  checks.equal('models, one', (await client.models.retrieve(model)).id, model);
  const asked = { model, input: QUESTION, temperature: 0, max_output_tokens: 24 };
  const response = await client.responses.create(asked);
  checks.true('responses', response.output_text.includes(STOP));
  let streamed = '';
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    if (event.type === 'response.output_text.delta') streamed += event.delta;
  }
  checks.equal('responses, streamed', streamed, response.output_text);
  const stored = await client.responses.create({ ...asked, store: true });
  const again = await client.responses.retrieve(stored.id);
  checks.equal('responses, stored', again.output_text, stored.output_text);
  const next = await client.responses.create(
    { ...asked, input: 'And in French?', previous_response_id: stored.id });
  checks.equal('responses, going on', next.previous_response_id, stored.id);
  await client.responses.delete(stored.id);
  const gone = await client.responses.retrieve(stored.id).catch((error) => error.status);
  checks.equal('responses, deleted', gone, 404);
}

async function checkVectors(client, model, checks) {
  const input = ['a cat', 'a dog'];
  const plain = (await client.embeddings.create({ model, input, encoding_format: 'float' })).data;
  checks.equal('embeddings', plain.map((one) => one.index), [0, 1]);
  checks.true('embeddings, they differ', !close(plain[0].embedding, plain[1].embedding));
  // Without encoding_format the SDK asks for base64.
  const packed = (await client.embeddings.create({ model, input })).data;
  checks.true('base64', close(packed[0].embedding, plain[0].embedding));
}

async function checkErrors(client, model, checks) {
  const ask = (more) => client.chat.completions.create({ model, messages: QUESTION, ...more });
  const bad = await checks.raised('errors', () => ask({ temperature: 9 }));
  checks.true('errors, a bad request', bad instanceof OpenAI.BadRequestError);
  checks.equal('errors, the field', bad.param, 'temperature');
  const missing = await checks.raised('errors', () => ask({ model: 'none' }));
  checks.equal('errors, no such model', [missing.status, missing.code], [404, 'model_not_found']);
  const stranger = client.withOptions({ apiKey: 'none' });
  const refused = await checks.raised('errors', () => stranger.models.list());
  checks.true('errors, no key', refused instanceof OpenAI.AuthenticationError);
}

const [base, key, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });
const checks = new Features('openai (Node)');
await checks.run([checkChat, checkSampling, checkOthers, checkVectors, checkErrors], client, model);
checks.end();
