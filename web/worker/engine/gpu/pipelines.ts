/** Compiles a library's kernels for the device, several at once and without blocking. */
import type { Instance, Module, PackedFunc } from "@mlc-ai/web-runtime";
import { EngineError } from "../../shared/errors.ts";
import type { KernelInfo } from "./kernel.ts";
import type { DeviceApi } from "./tvm.ts";

export interface PipelineOptions {
  /** Names of programs, or of single kernels; others are compiled when they're first needed. */
  kernels: ReadonlySet<string>;
  onReady: (done: number, total: number) => void;
}

/** Throws EngineError "adapter_unsuitable" if the device's driver refuses a kernel. */
export async function createPipelines(
  instance: Instance,
  api: DeviceApi,
  library: Module,
  { kernels, onReady }: PipelineOptions,
): Promise<void> {
  const { infos, getShader, usePipeline } = open(instance, library);
  const wanted = infos.filter(({ name }) => kernels.has(name) || kernels.has(programOf(name)));
  let done = 0;
  onReady(0, wanted.length);
  const compile = async (info: KernelInfo): Promise<void> => {
    const code = getShader(info.name) as string;
    const launcher = await api.launcher(info, code).catch((error: unknown) => {
      throw refused(info.name, error);
    });
    instance.withNewScope(() => usePipeline(info.name, launcher));
    onReady(++done, wanted.length);
  };
  try {
    await Promise.all(wanted.map(compile));
  } finally {
    getShader.dispose();
    usePipeline.dispose();
  }
}

/** TVM numbers a program's kernels: `name_kernel`, `name_kernel_1`. */
function programOf(kernel: string): string {
  return kernel.replace(/_kernel(_\d+)?$/, "");
}

function open(
  instance: Instance,
  library: Module,
): { infos: KernelInfo[]; getShader: PackedFunc; usePipeline: PackedFunc } {
  return instance.withNewScope(() => {
    const map = library.getFunction("webgpu.get_fmap", true)() as string;
    const get = (name: string): PackedFunc =>
      instance.detachFromCurrentScope(library.getFunction(name, true));
    return {
      infos: Object.values(JSON.parse(map) as Record<string, KernelInfo>),
      getShader: get("webgpu.get_shader"),
      usePipeline: get("webgpu.update_prebuild"),
    };
  });
}

function refused(kernel: string, error: unknown): unknown {
  if (!(error instanceof GPUPipelineError)) return error;
  return new EngineError(
    {
      code: "adapter_unsuitable",
      message: `This GPU's driver refuses the kernel ${kernel}: ${error.message}`,
      remedy: "Update the GPU driver and the browser, or use another device.",
    },
    { cause: error },
  );
}
