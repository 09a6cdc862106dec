// Runs an ONNX model once for every line on the standard input and prints the milliseconds that it took:
//   node onnx_peer.mjs FOLDER_OF_NODE_MODULES MODEL.onnx 1,3,224,224 float32|int64
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, model, shape, kind] = process.argv.slice(2);
const ort = createRequire(`${folder}/`)('onnxruntime-node');
const session = await ort.InferenceSession.create(model, {
  intraOpNumThreads: 1, interOpNumThreads: 1, graphOptimizationLevel: 'all', logSeverityLevel: 3,
});
const sizes = shape.split(',').map(Number);
const count = sizes.reduce((a, b) => a * b, 1);
const data = kind === 'int64' ? BigInt64Array.from({ length: count }, (_, i) => BigInt((i * 7919) % 30522))
                              : Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.37) * 1.7);
const feeds = { [session.inputNames[0]]: new ort.Tensor(kind, data, sizes) };
await session.run(feeds);
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'run') continue;
  const start = performance.now();
  await session.run(feeds);
  console.log(performance.now() - start);
}
