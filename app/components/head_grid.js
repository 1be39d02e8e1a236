// To come.
export default function () {}
